//! Rows of bars: costs stacked of parts, and ratios with their intervals beside a goal.

use crate::report::plot::Axis;
use crate::report::scale::{Scale, Unit, times};
use crate::report::svg::{Anchor, Drawing, text_width};

/// Bars that lie, each stacked of the same parts.
#[derive(Clone, Debug)]
pub struct Stack {
    pub title: String,
    pub label: String,
    pub unit: Unit,
    pub parts: Vec<String>,
    /// A name, and a value for each part.
    pub rows: Vec<(String, Vec<f64>)>,
}

/// How ours stands to another, each row on a logarithmic axis around 1.
#[derive(Clone, Debug)]
pub struct Ratios {
    pub title: String,
    pub label: String,
    pub rows: Vec<RatioRow>,
}

#[derive(Clone, Debug)]
pub struct RatioRow {
    pub name: String,
    /// Whom it is compared with.
    pub rival: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub goal: Option<f64>,
    pub verdict: Verdict,
}

/// Colours a row, and is written beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Missed,
    NoGoal,
}

const WIDTH: f64 = 760.0;
const ROW: f64 = 30.0;
const TOP: f64 = 8.0;
const FONT: f64 = 13.0;
const NAMES_MAX: f64 = 300.0;

impl Verdict {
    fn class(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::NoGoal => "plain",
        }
    }
}

/// Room for the longest of the names.
fn names_width<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    (names.map(|name| text_width(name, FONT)).fold(60.0, f64::max) + 14.0).min(NAMES_MAX)
}

impl Stack {
    pub fn draw(&self) -> Option<String> {
        if self.rows.is_empty() {
            return None;
        }
        let left = names_width(self.rows.iter().map(|row| row.0.as_str()));
        let right = WIDTH - 82.0;
        let bottom = TOP + self.rows.len() as f64 * ROW;
        let scale = Scale::linear(self.rows.iter().map(|row| row.1.iter().sum()));
        let mut drawing = Drawing::new(WIDTH, bottom + 68.0);
        let axis = Axis { label: self.label.clone(), scale, unit: self.unit };
        draw_axis(&mut drawing, &axis, (left, right), bottom);
        for (number, (name, values)) in self.rows.iter().enumerate() {
            let y = TOP + number as f64 * ROW;
            drawing.text("name", (left - 9.0, y + 19.0), Anchor::End, name);
            let mut sum = 0.0;
            for (part, value) in values.iter().enumerate() {
                let from = left + scale.place(sum) * (right - left);
                sum += value;
                let to = left + scale.place(sum) * (right - left);
                let title = format!("{name}, {}: {}", self.parts[part], self.unit.show(*value));
                drawing.rectangle(&format!("part f{part}"), (from, y + 5.0), (to - from, ROW - 10.0), &title);
            }
            let end = left + scale.place(sum) * (right - left);
            drawing.text("value", (end + 7.0, y + 19.0), Anchor::Start, &self.unit.show(sum));
        }
        self.draw_legend(&mut drawing, left, bottom + 60.0);
        Some(drawing.finish(&self.title, &format!("{}: {}", self.label, self.parts.join(", "))))
    }

    fn draw_legend(&self, drawing: &mut Drawing, left: f64, y: f64) {
        let mut x = left;
        for (part, name) in self.parts.iter().enumerate() {
            drawing.rectangle(&format!("part f{part}"), (x, y - 11.0), (14.0, 13.0), name);
            drawing.text("name", (x + 20.0, y), Anchor::Start, name);
            x += text_width(name, FONT) + 46.0;
        }
    }
}

impl Ratios {
    pub fn draw(&self) -> Option<String> {
        if self.rows.is_empty() {
            return None;
        }
        let left = names_width(self.rows.iter().map(|row| row.name.as_str()));
        let words: Vec<String> = self.rows.iter().map(RatioRow::words).collect();
        let right = WIDTH - words.iter().map(|words| text_width(words, FONT)).fold(60.0, f64::max) - 18.0;
        let bottom = TOP + self.rows.len() as f64 * ROW;
        let ends =
            self.rows.iter().flat_map(|row| [row.value, row.low, row.high, row.goal.unwrap_or(1.0), 1.0]);
        let scale = Scale::log(ends);
        let at = |value: f64| left + scale.place(value) * (right - left);
        let mut drawing = Drawing::new(WIDTH, bottom + 46.0);
        let axis = Axis { label: self.label.clone(), scale, unit: Unit::Times };
        draw_axis(&mut drawing, &axis, (left, right), bottom);
        drawing.line("alike", (at(1.0), TOP), (at(1.0), bottom));
        for (number, (row, words)) in self.rows.iter().zip(&words).enumerate() {
            let y = TOP + number as f64 * ROW + ROW / 2.0;
            let class = row.verdict.class();
            drawing.text("name", (left - 9.0, y + 4.5), Anchor::End, &row.name);
            drawing.line(&format!("bar {class}"), (at(1.0), y), (at(row.value), y));
            drawing.line(&format!("interval {class}"), (at(row.low), y), (at(row.high), y));
            let title =
                format!("{}: {} ({} to {})", row.name, times(row.value), times(row.low), times(row.high));
            drawing.circle(&format!("dot {class}"), (at(row.value), y), 4.5, &title);
            if let Some(goal) = row.goal {
                drawing.line("goal", (at(goal), y - 9.0), (at(goal), y + 9.0));
            }
            drawing.text("value", (right + 12.0, y + 4.5), Anchor::Start, words);
        }
        Some(drawing.finish(&self.title, &self.label))
    }
}

impl RatioRow {
    /// Beside the row, so that its colour need not be seen.
    fn words(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Held => ", held",
            Verdict::Missed => ", missed",
            Verdict::NoGoal => "",
        };
        let advantage = format!("{} {}", times(self.value), self.rival);
        format!("{}{verdict}", advantage.trim_end())
    }
}

fn draw_axis(drawing: &mut Drawing, axis: &Axis, (left, right): (f64, f64), bottom: f64) {
    let ticks = axis.scale.ticks(axis.unit);
    // Named only as often as the names fit.
    let room = (right - left) / ticks.len().max(1) as f64;
    let every = ticks.iter().map(|tick| text_width(&tick.1, FONT) + 10.0).fold(1.0, f64::max) / room;
    for (number, (value, name)) in ticks.into_iter().enumerate() {
        let x = left + axis.scale.place(value) * (right - left);
        drawing.line("grid", (x, TOP), (x, bottom));
        if number % (every.ceil() as usize).max(1) == 0 {
            drawing.text("tick", (x, bottom + 17.0), Anchor::Middle, &name);
        }
    }
    drawing.text("label", ((left + right) / 2.0, bottom + 36.0), Anchor::Middle, &axis.label);
}
