//! A page that needs nothing but itself: style in its head, drawings in its body, no script.

use std::fmt::Write;

use crate::report::svg::escaped;

/// A page under way.
pub struct Page {
    title: String,
    body: String,
}

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Text,
    /// Text of a few words that stay on one line.
    Phrase,
    Number,
    /// A number with words behind it, which may go into lines of their own.
    Qualified,
}

const STYLE: &str = include_str!("page.css");

impl Page {
    pub fn new(title: &str) -> Self {
        let mut page = Self { title: title.to_owned(), body: String::new() };
        page.push(&format!("<h1>{}</h1>", escaped(title)));
        page
    }

    /// A line of small print.
    pub fn facts(&mut self, text: &str) {
        self.push(&format!("<p class=\"facts\">{}</p>", escaped(text)));
    }

    pub fn heading(&mut self, text: &str) {
        self.push(&format!("<h2>{}</h2>", escaped(text)));
    }

    /// A heading within a chapter, with a name that a link can end in.
    pub fn subheading(&mut self, text: &str, name: &str) {
        let (text, name) = (escaped(text), escaped(name));
        self.push(&format!("<h3 id=\"{name}\">{text} <span class=\"name\">{name}</span></h3>"));
    }

    pub fn paragraph(&mut self, text: &str) {
        self.push(&format!("<p>{}</p>", escaped(text)));
    }

    pub fn warning(&mut self, text: &str) {
        self.push(&format!("<p class=\"invalid\">{}</p>", escaped(text)));
    }

    /// Text as it stands, folded away behind its title.
    pub fn folded_text(&mut self, title: &str, text: &str) {
        let (title, text) = (escaped(title), escaped(text));
        self.push(&format!("<details><summary>{title}</summary><pre>{text}</pre></details>"));
    }

    /// A heading and a drawing, if there is one.
    pub fn figure(&mut self, title: &str, drawing: Option<String>) {
        if let Some(drawing) = drawing {
            self.heading(title);
            self.push(&format!("<figure>\n{drawing}</figure>"));
        }
    }

    /// A cell that says `held` or `missed` is coloured so.
    pub fn table(&mut self, columns: &[(&str, Column)], rows: &[Vec<String>]) {
        let mut table = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
        for (name, column) in columns {
            write!(table, "<th{}>{}</th>", class(*column, ""), escaped(name))
                .expect("a String takes everything");
        }
        table.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            table.push_str("<tr>");
            for (cell, (_, column)) in row.iter().zip(columns) {
                let class = class(*column, cell);
                write!(table, "<td{class}>{}</td>", escaped(cell)).expect("a String takes everything");
            }
            table.push_str("</tr>\n");
        }
        table.push_str("</tbody></table></div>");
        self.push(&table);
    }

    pub fn finish(self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
            escaped(&self.title),
            self.body
        )
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }
}

fn class(column: Column, cell: &str) -> &'static str {
    match (column, cell) {
        (_, "held") => " class=\"held\"",
        (_, "missed") => " class=\"missed\"",
        (Column::Number, _) => " class=\"n\"",
        (Column::Qualified, _) => " class=\"q\"",
        (Column::Phrase, _) => " class=\"p\"",
        (Column::Text, _) => "",
    }
}
