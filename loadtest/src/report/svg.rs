//! SVG as text: elements with attributes, everything escaped.

use std::fmt::{Display, Write};

/// A drawing under way. Coordinates are in CSS pixels of an unscaled drawing.
pub struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    pub fn new(width: f64, height: f64) -> Self {
        Self { body: String::new(), width, height }
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.push(format_args!(
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    pub fn rectangle(&mut self, class: &str, at: (f64, f64), size: (f64, f64), title: &str) {
        self.push(format_args!(
            r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}"><title>{}</title></rect>"#,
            at.0,
            at.1,
            size.0.max(0.0),
            size.1.max(0.0),
            escaped(title)
        ));
    }

    pub fn circle(&mut self, class: &str, at: (f64, f64), radius: f64, title: &str) {
        self.push(format_args!(
            r#"<circle class="{class}" cx="{:.1}" cy="{:.1}" r="{radius}"><title>{}</title></circle>"#,
            at.0,
            at.1,
            escaped(title)
        ));
    }

    /// A line through all points.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut data = String::new();
        for (number, (x, y)) in points.iter().enumerate() {
            let command = if number == 0 { 'M' } else { 'L' };
            write!(data, "{command}{x:.1} {y:.1}").expect("a String takes everything");
        }
        self.push(format_args!(r#"<path class="{class}" d="{data}"/>"#));
    }

    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = anchor.name();
        self.push(format_args!(
            r#"<text class="{class}" x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
            at.0,
            at.1,
            escaped(text)
        ));
    }

    /// A text that is read from below.
    pub fn text_upwards(&mut self, class: &str, at: (f64, f64), text: &str) {
        self.push(format_args!(
            r#"<text class="{class}" transform="translate({:.1} {:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            at.0,
            at.1,
            escaped(text)
        ));
    }

    /// The whole element; `description` is read out where the drawing cannot be seen.
    pub fn finish(self, title: &str, description: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n\
             <title>{}</title>\n<desc>{}</desc>\n{}</svg>\n",
            self.width,
            self.height,
            escaped(title),
            escaped(description),
            self.body
        )
    }

    fn push(&mut self, element: impl Display) {
        writeln!(self.body, "{element}").expect("a String takes everything");
    }
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// Text as it may stand in XML and HTML, in attributes too.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // What XML 1.0 has no form for.
            control if control < ' ' && !matches!(control, '\t' | '\n' | '\r') => escaped.push('\u{FFFD}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// About how wide a text of the page's font is, for room that must be known before it is drawn.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.56
}
