//! A picture of a run: throughput above, latency below, over the same seconds. Plain SVG, without a library or a script.

use std::fmt::Write;

use crate::tally::Second;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const PLOT: f64 = 220.0;
const TOP: f64 = 60.0;
const BETWEEN: f64 = 60.0;
const HEIGHT: f64 = TOP + 2.0 * PLOT + BETWEEN + 50.0;

/// A line of the picture: its name, its colour, and where it is in each second, if anywhere.
struct Line {
    name: &'static str,
    colour: &'static str,
    points: Vec<Option<f64>>,
}

/// Draws these seconds under this title.
pub(crate) fn draw(title: &str, seconds: &[Second]) -> String {
    let counts = |name, colour, of: fn(&Second) -> u64| Line {
        name,
        colour,
        points: seconds.iter().map(|second| Some(of(second) as f64)).collect(),
    };
    let latencies = |name, colour, quantile| Line {
        name,
        colour,
        points: seconds.iter().map(|second| second.latency(quantile)).collect(),
    };
    let mut rates = vec![counts("good", "#0072b2", |second| second.good)];
    // What never happened has no line.
    let more = [
        counts("refused (503)", "#e69f00", |second| second.refused),
        counts("bad", "#d55e00", |second| second.bad),
    ];
    rates.extend(more.into_iter().filter(|line| line.points.iter().flatten().any(|count| *count > 0.0)));
    let waits = [
        latencies("p50", "#009e73", 0.5),
        latencies("p99", "#0072b2", 0.99),
        latencies("max", "#999999", 1.0),
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    plot(&mut svg, TOP, "answers a second", &rates, &Scale::from_zero(&rates));
    plot(&mut svg, TOP + PLOT + BETWEEN, "latency in ms, logarithmic", &waits, &Scale::logarithmic(&waits));
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">seconds</text>\n</svg>\n",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 8.0
    );
    svg
}

/// How a figure becomes a height, from 0 at the bottom to 1 at the top.
struct Scale {
    least: f64,
    most: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Scale {
    /// From 0 to the next round number, in four or five steps.
    fn from_zero(lines: &[Line]) -> Self {
        let most = figures(lines).fold(1.0, f64::max);
        let rough = most / 4.0;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * magnitude).into_iter();
        let step = step.filter(|step| *step >= rough * 0.999).fold(f64::INFINITY, f64::min);
        let mut ticks = vec![0.0];
        while ticks.last().is_some_and(|last| *last < most) {
            ticks.push(ticks.len() as f64 * step);
        }
        Self { least: 0.0, most: ticks.last().copied().unwrap_or(most), logarithmic: false, ticks }
    }

    /// Powers of ten around all figures.
    fn logarithmic(lines: &[Line]) -> Self {
        let sane = || figures(lines).map(|figure| figure.max(0.01));
        let first = sane().fold(f64::INFINITY, f64::min).min(1e6).log10().floor();
        let last = sane().fold(0.01, f64::max).log10().ceil().max(first + 1.0);
        let mut ticks = Vec::new();
        let mut power = first;
        while power <= last {
            ticks.push(10_f64.powf(power));
            power += 1.0;
        }
        Self { least: 10_f64.powf(first), most: 10_f64.powf(last), logarithmic: true, ticks }
    }

    fn height(&self, figure: f64) -> f64 {
        let place = if self.logarithmic {
            (figure.max(self.least) / self.least).ln() / (self.most / self.least).ln()
        } else {
            (figure - self.least) / (self.most - self.least)
        };
        place.clamp(0.0, 1.0)
    }
}

fn figures(lines: &[Line]) -> impl Iterator<Item = f64> + '_ {
    lines.iter().flat_map(|line| line.points.iter().flatten().copied())
}

/// One plot, whose top is at `top`.
fn plot(svg: &mut String, top: f64, title: &str, lines: &[Line], scale: &Scale) {
    let (bottom, right) = (top + PLOT, WIDTH - RIGHT);
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\" fill=\"#444\">{title}</text>", top - 10.0);
    for tick in &scale.ticks {
        let y = bottom - scale.height(*tick) * PLOT;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            in_short(*tick)
        );
    }
    let seconds = lines.first().map_or(0, |line| line.points.len());
    // A point stands for its second, in whose middle it is.
    let width = right - LEFT;
    let x = |second: f64| LEFT + second / seconds.max(1) as f64 * width;
    let step = seconds.div_ceil(10).max(1);
    for second in (0..=seconds).step_by(step) {
        let x = x(second as f64);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second}</text>",
            bottom + 16.0
        );
    }
    let _ = writeln!(svg, "<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#444\"/>");
    for (number, line) in lines.iter().enumerate() {
        let mut path = String::new();
        let mut drawing = false;
        for (second, point) in line.points.iter().enumerate() {
            let Some(figure) = point else {
                drawing = false;
                continue;
            };
            let y = bottom - scale.height(*figure) * PLOT;
            let _ = write!(path, "{}{:.1} {y:.1}", if drawing { 'L' } else { 'M' }, x(second as f64 + 0.5));
            if !drawing {
                // So that a second between two empty ones is seen, as a dot.
                path.push_str("h0.1");
            }
            drawing = true;
        }
        let y = top + 14.0 + number as f64 * 18.0;
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linecap=\"round\"/>\
             <line x1=\"{}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            right + 14.0,
            right + 34.0,
            right + 40.0,
            y + 4.0,
            line.name,
            colour = line.colour,
        );
    }
}

/// `12,500` is `12.5k`; what is small keeps its digits.
fn in_short(figure: f64) -> String {
    if figure >= 1_000.0 {
        format!("{}k", figure / 1_000.0)
    } else {
        format!("{}", (figure * 100.0).round() / 100.0)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[f64]) -> Line {
        Line { name: "it", colour: "red", points: points.iter().copied().map(Some).collect() }
    }

    #[test]
    fn a_scale_ends_on_round_numbers_above_all_figures() {
        let scale = Scale::from_zero(&[line(&[3.0, 870.0])]);
        assert_eq!(scale.ticks, [0.0, 250.0, 500.0, 750.0, 1000.0]);
        assert!((scale.height(250.0) - 0.25).abs() < 1e-9);
        let scale = Scale::logarithmic(&[line(&[0.4, 31.0])]);
        assert_eq!(scale.ticks.len(), 4, "{:?}", scale.ticks);
        assert!((scale.height(1.0) - 1.0 / 3.0).abs() < 1e-9);
        // Nothing at all, and nothing but zero, are drawn as well.
        assert_eq!(Scale::from_zero(&[line(&[0.0])]).ticks.first(), Some(&0.0));
        assert!(Scale::logarithmic(&[line(&[])]).height(5.0).is_finite());
    }

    #[test]
    fn a_second_without_answers_breaks_the_line() {
        let mut svg = String::new();
        let broken =
            Line { name: "p50", colour: "blue", points: vec![Some(1.0), Some(2.0), None, Some(3.0)] };
        let scale = Scale::from_zero(std::slice::from_ref(&broken));
        plot(&mut svg, 0.0, "latency", &[broken], &scale);
        let path = svg.split("stroke=\"blue\"").next().unwrap().rsplit("<path d=\"").next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
    }

    #[test]
    fn a_picture_of_nothing_is_a_picture() {
        let svg = draw("a <b> & c", &[]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
