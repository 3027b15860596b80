//! Schedules: recorded as they are drawn, replayed, made shorter; and moments at which no other thread runs.
//!
//! All of an execution happens on one thread of the operating system, so what belongs to it is thread-local.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::str::FromStr;

use shuttle::scheduler::{RandomScheduler, Schedule, Scheduler, Task, TaskId};

thread_local! {
    static CHOSEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static ALONE: Cell<bool> = const { Cell::new(false) };
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// Which thread ran, step by step: (thread, steps in a row).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Choices(pub(crate) Vec<(u8, u32)>);

impl Choices {
    /// Those of the execution that this thread ran last.
    pub(crate) fn last() -> Self {
        CHOSEN.with_borrow(|chosen| Self::joined(&chosen.iter().map(|thread| (*thread, 1)).collect::<Vec<_>>()))
    }

    /// Without one of its runs.
    pub(crate) fn without(&self, at: usize) -> Option<Self> {
        let mut runs = self.0.clone();
        runs.remove(at);
        Some(Self::joined(&runs))
    }

    /// One of its runs put together with the same thread's next one; `None` where there is none.
    pub(crate) fn later(&self, at: usize) -> Option<Self> {
        let next = (at + 1..self.0.len()).find(|next| self.0[*next].0 == self.0[at].0)?;
        Some(self.moved(at, next))
    }

    /// One of its runs put together with the same thread's last one before it; `None` where there is none.
    pub(crate) fn sooner(&self, at: usize) -> Option<Self> {
        let last = (0..at).rev().find(|last| self.0[*last].0 == self.0[at].0)?;
        Some(self.moved(at, last))
    }

    /// The step at which what was played left this; `None` where it went on to the end of it.
    pub(crate) fn left_by(&self, played: &Self) -> Option<usize> {
        let steps = |of: &Self| -> Vec<u8> {
            let turns = of.0.iter().map(|(thread, steps)| (*thread, *steps as usize));
            turns
                .flat_map(|(thread, steps)| core::iter::repeat_n(thread, steps))
                .collect()
        };
        let (asked, played) = (steps(self), steps(played));
        let same = asked
            .iter()
            .zip(&played)
            .take_while(|(asked, played)| asked == played)
            .count();
        (same < asked.len()).then_some(same)
    }

    fn moved(&self, from: usize, to: usize) -> Self {
        let mut runs = self.0.clone();
        runs[to].1 += runs[from].1;
        runs.remove(from);
        Self::joined(&runs)
    }

    /// Neighbours that are the same thread's become one.
    fn joined(runs: &[(u8, u32)]) -> Self {
        let mut joined: Vec<(u8, u32)> = Vec::new();
        for (thread, steps) in runs {
            match joined.last_mut() {
                Some((last, more)) if last == thread => *more += steps,
                _ => joined.push((*thread, *steps)),
            }
        }
        Self(joined)
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (thread, steps)) in self.0.iter().enumerate() {
            write!(f, "{}{thread}x{steps}", if n > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Choices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let run = |run: &str| {
            let (thread, steps) = run.split_once('x')?;
            Some((thread.parse().ok()?, steps.parse().ok()?))
        };
        let runs = text
            .split(',')
            .map(|text| run(text).ok_or_else(|| format!("'{text}' is not THREADxSTEPS")));
        runs.collect::<Result<_, _>>().map(Self)
    }
}

/// Returns how many schedules this thread has drawn since it was asked last.
pub(crate) fn drawn() -> u64 {
    DRAWN.take()
}

/// Returns the number of the thread that runs now.
pub(crate) fn current() -> usize {
    CHOSEN.with_borrow(|chosen| chosen.last().copied().map_or(0, usize::from))
}

/// True in one execution of so many.
pub(crate) fn one_in(executions: u64) -> bool {
    DRAWN.get() % executions == 0
}

/// Runs `f` without letting another thread run, unless `f` blocks.
pub(crate) fn alone<R>(f: impl FnOnce() -> R) -> R {
    ALONE.set(true);
    let done = f();
    ALONE.set(false);
    done
}

/// A scheduler, what it chooses being written down.
pub(crate) struct Recorded<S>(pub(crate) S);

impl<S: Scheduler> Scheduler for Recorded<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        CHOSEN.with_borrow_mut(Vec::clear);
        ALONE.set(false);
        self.0.new_execution().inspect(|_| DRAWN.set(DRAWN.get() + 1))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        let stay = current.filter(|me| ALONE.get() && runnable.iter().any(|task| task.id() == *me));
        // Asked in any case: a schedule that is played again has this step in it.
        let next = self.0.next_task(runnable, current, yields);
        let chosen = stay.or(next)?;
        let thread = u8::try_from(usize::from(chosen)).expect("a scenario has few threads");
        CHOSEN.with_borrow_mut(|list| list.push(thread));
        Some(chosen)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Random schedules: in every other one any thread may come next at each step; in the rest a thread goes on for some steps, so that
/// whole operations of one happen between two steps of another.
pub(crate) struct Turns {
    steps: RandomScheduler,
    long: bool,
}

impl Turns {
    /// A thread's turn ends at one step in so many.
    const STEPS: u64 = 32;

    pub(crate) fn new(seed: u64, schedules: usize) -> Self {
        Self {
            steps: RandomScheduler::new_from_seed(seed, schedules),
            long: false,
        }
    }
}

impl Scheduler for Turns {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.long = !self.long;
        self.steps.new_execution()
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        let on = current.filter(|me| self.long && !yields && runnable.iter().any(|task| task.id() == *me));
        match on {
            Some(me) if self.steps.next_u64() % Self::STEPS != 0 => Some(me),
            _ => self.steps.next_task(runnable, current, yields),
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.steps.next_u64()
    }
}

/// Plays one schedule. Where a choice cannot be followed, because the schedule was made shorter, the next one is; after the last
/// one each thread runs for as long as it can.
pub(crate) struct Again {
    choices: Choices,
    at: usize,
    steps: u32,
    begun: bool,
}

impl Again {
    pub(crate) const fn new(choices: Choices) -> Self {
        Self {
            choices,
            at: 0,
            steps: 0,
            begun: false,
        }
    }
}

impl Scheduler for Again {
    fn new_execution(&mut self) -> Option<Schedule> {
        (!core::mem::replace(&mut self.begun, true)).then(|| Schedule::new(0))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        let can = |thread: usize| {
            runnable
                .iter()
                .map(|task| task.id())
                .find(|id| usize::from(*id) == thread)
        };
        while let Some((thread, steps)) = self.choices.0.get(self.at) {
            match can(usize::from(*thread)).filter(|_| self.steps < *steps) {
                Some(task) => {
                    self.steps += 1;
                    return Some(task);
                }
                None => {
                    self.at += 1;
                    self.steps = 0;
                }
            }
        }
        let stay = current.filter(|me| !yields && runnable.iter().any(|task| task.id() == *me));
        let other = runnable.iter().map(|task| task.id()).find(|id| Some(*id) != current);
        stay.or(other).or(current)
    }

    fn next_u64(&mut self) -> u64 {
        0
    }
}
