//! Lines over two axes, each told apart by colour, dash and mark, so that nobody depends on colours alone.

use crate::report::scale::{Scale, Unit};
use crate::report::svg::{Anchor, Drawing, text_width};

/// What an axis shows.
#[derive(Clone, Debug)]
pub struct Axis {
    /// With the unit, if the values do not name it.
    pub label: String,
    pub scale: Scale,
    pub unit: Unit,
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub marks: Marks,
}

/// Whether single points are worth a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    Shown,
    Hidden,
}

#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

/// Colours and dashes come round again after so many series.
pub const STYLES: usize = 8;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 10.0;
const INNER_HEIGHT: f64 = 300.0;
const BELOW_AXIS: f64 = 52.0;
const LEGEND_ROW: f64 = 20.0;
const FONT: f64 = 13.0;

impl Plot {
    /// Nothing, if there is nothing to draw.
    pub fn draw(&self) -> Option<String> {
        self.series.iter().any(|series| !series.points.is_empty()).then(|| {
            let rows = self.legend_rows();
            let height = TOP + INNER_HEIGHT + BELOW_AXIS + rows.len() as f64 * LEGEND_ROW;
            let mut drawing = Drawing::new(WIDTH, height);
            self.draw_axes(&mut drawing);
            for (number, series) in self.series.iter().enumerate() {
                self.draw_series(&mut drawing, number, series);
            }
            draw_legend(&mut drawing, &self.series, &rows);
            drawing.finish(&self.title, &self.description())
        })
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let inner_width = WIDTH - LEFT - RIGHT;
        (LEFT + self.x.scale.place(x) * inner_width, TOP + (1.0 - self.y.scale.place(y)) * INNER_HEIGHT)
    }

    fn draw_axes(&self, drawing: &mut Drawing) {
        let (bottom, right) = (TOP + INNER_HEIGHT, WIDTH - RIGHT);
        for (value, name) in self.y.scale.ticks(self.y.unit) {
            let y = TOP + (1.0 - self.y.scale.place(value)) * INNER_HEIGHT;
            drawing.line("grid", (LEFT, y), (right, y));
            drawing.text("tick", (LEFT - 7.0, y + 4.0), Anchor::End, &name);
        }
        for (value, name) in self.x.scale.ticks(self.x.unit) {
            let x = LEFT + self.x.scale.place(value) * (right - LEFT);
            drawing.line("grid", (x, TOP), (x, bottom));
            let anchor = if x > right - 8.0 { Anchor::End } else { Anchor::Middle };
            drawing.text("tick", (x, bottom + 17.0), anchor, &name);
        }
        drawing.line("axis", (LEFT, bottom), (right, bottom));
        drawing.text("label", ((LEFT + right) / 2.0, bottom + 38.0), Anchor::Middle, &self.x.label);
        drawing.text_upwards("label", (15.0, TOP + INNER_HEIGHT / 2.0), &self.y.label);
    }

    fn draw_series(&self, drawing: &mut Drawing, number: usize, series: &Series) {
        let style = number % STYLES;
        let points: Vec<(f64, f64)> = series.points.iter().map(|point| self.place(*point)).collect();
        if points.len() > 1 {
            drawing.path(&format!("line s{style}"), &points);
        }
        if series.marks == Marks::Shown || points.len() == 1 {
            for (at, (x, y)) in points.iter().zip(&series.points) {
                let title = format!("{}: {}, {}", series.name, self.x.unit.show(*x), self.y.unit.show(*y));
                draw_mark(drawing, style, *at, &title);
            }
        }
    }

    /// Series by the row of the legend they stand in, as many in each as there is room for.
    fn legend_rows(&self) -> Vec<Vec<usize>> {
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut used = f64::INFINITY;
        for (number, series) in self.series.iter().enumerate() {
            let width = legend_width(&series.name);
            if used + width > WIDTH - LEFT - RIGHT {
                rows.push(Vec::new());
                used = 0.0;
            }
            used += width;
            rows.last_mut().expect("a row was pushed before the first series").push(number);
        }
        rows
    }

    fn description(&self) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        format!("{} over {}, for {}", self.y.label, self.x.label, names.join(", "))
    }
}

fn legend_width(name: &str) -> f64 {
    text_width(name, FONT) + 58.0
}

fn draw_legend(drawing: &mut Drawing, series: &[Series], rows: &[Vec<usize>]) {
    for (row, numbers) in rows.iter().enumerate() {
        let y = TOP + INNER_HEIGHT + BELOW_AXIS + row as f64 * LEGEND_ROW + 8.0;
        let mut x = LEFT;
        for &number in numbers {
            let style = number % STYLES;
            drawing.path(&format!("line s{style}"), &[(x, y - 4.0), (x + 30.0, y - 4.0)]);
            if series[number].marks == Marks::Shown {
                draw_mark(drawing, style, (x + 15.0, y - 4.0), &series[number].name);
            }
            drawing.text("name", (x + 37.0, y), Anchor::Start, &series[number].name);
            x += legend_width(&series[number].name);
        }
    }
}

/// A disc or a square, full or hollow.
fn draw_mark(drawing: &mut Drawing, style: usize, at: (f64, f64), title: &str) {
    let filling = if style % 4 < 2 { "full" } else { "hollow" };
    match style % 2 {
        0 => drawing.circle(&format!("mark {filling} s{style}"), at, 3.6, title),
        _ => drawing.rectangle(
            &format!("mark {filling} s{style}"),
            (at.0 - 3.3, at.1 - 3.3),
            (6.6, 6.6),
            title,
        ),
    }
}
