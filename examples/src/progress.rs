//! What is happening, while it happens: a picture on a terminal, a line now and then without one.
//!
//! Both go to standard error, so that standard output holds the report and nothing else.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Until;
use crate::console;
use crate::picture::{Picture, draw};
use crate::report::Stalls;

/// What the migrator tells while it works.
#[derive(Debug, Default)]
pub struct Live {
    /// Pages moved so far.
    pub moved: AtomicU64,
    /// Pages that stayed, so far.
    pub refused: AtomicU64,
    /// Trips made: everything to the other node.
    pub trips: AtomicU32,
    /// True once pages move: before, threads touch everything for the first time.
    pub started: AtomicBool,
}

/// Where a picture is taken from.
pub trait Scene {
    /// Returns how many pages there are.
    fn pages(&self) -> usize;

    /// Returns the node that a page is on now.
    fn node_of(&self, page: usize) -> Option<usize>;

    /// Returns how long accesses were blocked so far.
    fn stalls(&self) -> Stalls;
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A picture that is drawn over.
    Picture,
    /// A line every second.
    Lines,
    /// Nothing.
    Nothing,
}

/// Chooses how to show progress: nothing where nobody wants it, a picture where it can be drawn over.
#[must_use]
pub fn style(quiet: bool) -> Style {
    if quiet {
        Style::Nothing
    } else if io::stderr().is_terminal() {
        Style::Picture
    } else {
        Style::Lines
    }
}

/// Cells of a row, where the terminal is wide enough.
const CELLS: usize = 64;
const PICTURE_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Lines of programs that run for minutes.
const GAUGE_EVERY: Duration = Duration::from_secs(5);
/// What the bar counts for a job that ends by time.
const STEPS: u64 = 1000;

/// Shows progress until the sender of `end` is gone.
pub fn show(style: Style, live: &Live, until: Until, scene: &impl Scene, end: Receiver<()>) {
    let (every, bar) = match style {
        Style::Nothing => return,
        Style::Lines => (LINE_EVERY, None),
        Style::Picture => (PICTURE_EVERY, Some(bar("{msg}\n{prefix}\n{wide_bar} {percent:>3}%"))),
    };
    let mut rate = Rate::new();
    let mut begun: Option<Instant> = None;
    while end.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        if !live.started.load(Ordering::Relaxed) {
            continue;
        }
        let begun = *begun.get_or_insert_with(Instant::now);
        let moved = live.moved.load(Ordering::Relaxed);
        let picture = draw(scene.pages(), cells(), |page| scene.node_of(page));
        let (pages, stalls) = (moved_so_far(live, moved, rate.update(moved)), blocked(scene.stalls()));
        match &bar {
            None => {
                let [on_0, on_1] = picture.on;
                console::remark(format_args!("{pages}; {on_0} on node 0, {on_1} on node 1; {stalls}"));
            }
            Some(bar) => {
                bar.set_message(rows(&picture));
                bar.set_prefix(format!("{pages}\n{stalls}"));
                bar.set_position(share(live, until, begun.elapsed()));
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Progress of a program that has one line to say about it: a bar on a terminal, a line now and then without one.
#[derive(Debug)]
pub struct Gauge {
    style: Style,
    bar: Option<ProgressBar>,
}

impl Gauge {
    /// Makes one that shows nothing yet.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let style = style(quiet);
        let bar = (style == Style::Picture).then(|| bar("{msg}\n{wide_bar} {percent:>3}%"));
        Self { style, bar }
    }

    /// Returns how long to wait before it is due again.
    #[must_use]
    pub const fn every(&self) -> Duration {
        match self.style {
            Style::Picture => PICTURE_EVERY,
            Style::Lines | Style::Nothing => GAUGE_EVERY,
        }
    }

    /// True where so long after it was shown it should be shown again.
    #[must_use]
    pub fn is_due(&self, since: Duration) -> bool {
        self.style != Style::Nothing && since >= self.every()
    }

    /// Shows how far it is, from 0 to 1.
    pub fn show(&self, line: String, part: f64) {
        match (&self.bar, self.style) {
            (Some(bar), _) => {
                bar.set_message(line);
                bar.set_position((part.min(1.0) * STEPS as f64) as u64);
            }
            (None, Style::Nothing) => {}
            (None, _) => console::remark(line),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
    // A constant of ours: were it wrong, the default style would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// What fits the line: the bar's own idea of the terminal's width is not told, so the kernel is asked (`ioctl_tty(2)`).
fn cells() -> usize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `size` is live for the call and is what TIOCGWINSZ fills in.
    let known = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0 && size.ws_col > 0;
    let width = if known { usize::from(size.ws_col) } else { 80 };
    // The rows' own words, borders and counts.
    width.saturating_sub(20).clamp(1, CELLS)
}

/// How far the job is, in [`STEPS`].
fn share(live: &Live, until: Until, elapsed: Duration) -> u64 {
    let part = match until {
        Until::Elapsed(time) => elapsed.as_secs_f64() / time.as_secs_f64(),
        Until::Rounds(rounds) => {
            let done = f64::from(live.trips.load(Ordering::Relaxed));
            done / (2.0 * f64::from(rounds))
        }
    };
    (part.min(1.0) * STEPS as f64) as u64
}

fn rows(picture: &Picture) -> String {
    let rows = picture.rows.iter().zip(picture.on).enumerate();
    let rows: Vec<_> = rows
        .map(|(node, (row, on))| format!("node {node} \u{2502}{row}\u{2502} {on}"))
        .collect();
    rows.join("\n")
}

fn moved_so_far(live: &Live, moved: u64, per_second: f64) -> String {
    let refused = live.refused.load(Ordering::Relaxed);
    format!("{moved} moved, {per_second:.0} pages/s, {refused} stayed")
}

fn blocked(stalls: Stalls) -> String {
    let Stalls {
        count, p99_us, max_us, ..
    } = stalls;
    format!("{count} blocked, p99 {p99_us:.0} us, worst {max_us:.0} us")
}

/// Pages a second, smoothed over about a second so that one can read it.
#[derive(Debug)]
struct Rate {
    at: Instant,
    moved: u64,
    per_second: Option<f64>,
}

impl Rate {
    fn new() -> Self {
        Self {
            at: Instant::now(),
            moved: 0,
            per_second: None,
        }
    }

    fn update(&mut self, moved: u64) -> f64 {
        let time = self.at.elapsed().as_secs_f64().max(1e-6);
        let now = (moved - self.moved.min(moved)) as f64 / time;
        (self.at, self.moved) = (Instant::now(), moved);
        let share = time.min(1.0);
        let smooth = self.per_second.map_or(now, |before| before + (now - before) * share);
        self.per_second = Some(smooth);
        smooth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Still;

    impl Scene for Still {
        fn pages(&self) -> usize {
            4
        }

        fn node_of(&self, page: usize) -> Option<usize> {
            Some(usize::from(page == 0))
        }

        fn stalls(&self) -> Stalls {
            Stalls::default()
        }
    }

    #[test]
    fn the_picture_has_a_row_for_each_node() {
        let picture = draw(Still.pages(), 4, |page| Still.node_of(page));
        assert_eq!(rows(&picture), "node 0 │ ███│ 3\nnode 1 │█   │ 1");
        assert_eq!(
            moved_so_far(&Live::default(), 12, 34.4),
            "12 moved, 34 pages/s, 0 stayed"
        );
        assert_eq!(blocked(Still.stalls()), "0 blocked, p99 0 us, worst 0 us");
    }

    #[test]
    fn the_bar_follows_time_or_rounds_and_never_passes_its_end() {
        let live = Live::default();
        let time = Until::Elapsed(Duration::from_secs(4));
        assert_eq!(share(&live, time, Duration::from_secs(1)), STEPS / 4);
        assert_eq!(share(&live, time, Duration::from_secs(9)), STEPS);
        live.trips.store(3, Ordering::Relaxed);
        assert_eq!(share(&live, Until::Rounds(3), Duration::ZERO), STEPS / 2);
    }

    #[test]
    fn the_display_ends_when_the_job_does() {
        for style in [Style::Nothing, Style::Lines, Style::Picture] {
            let (job, end) = mpsc::channel();
            let live = Live::default();
            std::thread::scope(|scope| {
                let live = &live;
                scope.spawn(move || show(style, live, Until::Rounds(1), &Still, end));
                drop(job);
            });
        }
    }
}
