//! What charts have in common: axes that go by powers, and the marks on them.

use super::svg::Svg;

/// The colours of curves, in order; after the last one they begin again.
const COLOURS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

/// Returns the colour of the `n`th thing that is drawn.
pub(super) fn colour(n: usize) -> &'static str {
    COLOURS.get(n % COLOURS.len()).copied().unwrap_or("six")
}

/// A logarithmic axis: values from `low` to `high` lie from `start` to `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    start: i32,
    end: i32,
}

impl Axis {
    /// Makes an axis that has all of `values`, from a 1, 2 or 5 of some power of ten to another.
    pub(super) fn new(values: impl Iterator<Item = f64>, [start, end]: [i32; 2]) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            least = least.min(value);
            most = most.max(value);
        }
        if most == 0.0 {
            (least, most) = (1.0, 1.0);
        }
        let (mut low, mut high) = (1e-9, 1e12);
        for step in steps() {
            if step <= least {
                low = step;
            }
            if step >= most && step > low {
                high = step;
                break;
            }
        }
        Self { low, high, start, end }
    }

    /// Returns where a value lies.
    pub(super) fn at(&self, value: f64) -> i32 {
        let share = (value.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        self.start + (f64::from(self.end - self.start) * share).round() as i32
    }

    /// Returns the values that have a mark: where there is no room for 1, 2 and 5, the powers of ten alone.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let within = |step: &f64| (self.low..=self.high).contains(step);
        let all: Vec<f64> = steps().filter(within).collect();
        let room = (self.end - self.start).abs() / 36;
        let many = i32::try_from(all.len()).is_ok_and(|ticks| ticks > room);
        if many {
            (-9..=12).map(|power| 10f64.powi(power)).filter(within).collect()
        } else {
            all
        }
    }
}

/// 1, 2 and 5 of every power of ten.
fn steps() -> impl Iterator<Item = f64> {
    (-9..=12).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)))
}

/// Writes a number in as few signs as tell it from others on an axis.
pub(super) fn number(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{}M", value / 1e6),
        _ if value >= 1e4 => format!("{}k", value / 1e3),
        _ => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

/// Draws a point; a hollow one for what includes something more.
pub(super) fn dot(svg: &mut Svg, [x, y]: [i32; 2], hollow: bool, colour: &str) {
    if hollow {
        let left = x - 5;
        svg.path(
            &format!("M{left} {y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0"),
            &format!("ring {colour}"),
        );
    } else {
        svg.path(&format!("M{x} {y}h.01"), &format!("dot {colour}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_all_values_and_ends_at_round_ones() {
        let axis = Axis::new([3.0, 700.0].into_iter(), [100, 500]);
        assert_eq!((axis.low, axis.high), (2.0, 1000.0));
        assert_eq!((axis.at(2.0), axis.at(1000.0)), (100, 500));
        assert!(axis.at(3.0) > 100 && axis.at(700.0) < 500);
        assert_eq!(axis.ticks(), [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        let narrow = Axis::new([3.0, 700.0].into_iter(), [300, 0]);
        assert_eq!(narrow.ticks(), [10.0, 100.0, 1000.0]);
        assert!(narrow.at(3.0) > narrow.at(700.0), "an axis may go up");
    }

    #[test]
    fn an_axis_of_one_value_or_of_none_can_be_drawn() {
        for values in [&[5.0][..], &[0.0], &[]] {
            let axis = Axis::new(values.iter().copied(), [0, 100]);
            assert!(axis.low < axis.high && axis.ticks().len() >= 2, "{values:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.05, 2.0, 500.0, 1e4, 5e5, 1e6, 2e7].map(number);
        assert_eq!(all, ["0.05", "2", "500", "10k", "500k", "1M", "20M"]);
    }
}
