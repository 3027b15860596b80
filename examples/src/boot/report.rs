//! What came of booting the kernel: as text for a person, as one JSON object for a program.

use core::fmt::Write as _;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::line::Values;
use super::machine::{Accelerator, Ran};
use super::same_trace;
use crate::console::one_line;

/// The scenarios.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenarios {
    /// Those that ran and left the model's trace.
    pub same: Vec<String>,
    /// Those that ran and left another one.
    pub different: Vec<String>,
    /// Those that need what the kernel does not have.
    pub not_applicable: usize,
    /// What they need.
    pub lacks: BTreeSet<String>,
    /// Why they did not all run.
    pub failure: Option<String>,
}

/// The conformance kit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kit {
    /// What the kernel counted: `passed`, `not_applicable`, `failed`.
    pub counts: Values,
    /// What the kernel does not have.
    pub lacks: Vec<String>,
    /// The cases that failed, and why.
    pub failed: Vec<String>,
    /// Why it was not well.
    pub failure: Option<String>,
}

impl Kit {
    /// Reads what a machine said.
    #[must_use]
    pub fn new(ran: &Ran) -> Self {
        let counts = ran.said("kit").next().map(Values::new);
        let last = ran.said("case").last().unwrap_or("the first case");
        let missing = counts.is_none().then(|| format!("it ended in {last}"));
        Self {
            counts: counts.unwrap_or_default(),
            lacks: ran.said("lacks").map(str::to_owned).collect(),
            failed: ran.said("failed").map(str::to_owned).collect(),
            failure: missing.or_else(|| ran.failure.clone()),
        }
    }

    /// True where it came to its end, cases passed, and none failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let passed = self.counts.number("passed").unwrap_or(0);
        self.failure.is_none() && passed > 0 && self.counts.number("failed") == Some(0)
    }

    fn write_text(&self, out: &mut String) -> core::fmt::Result {
        let of = |word| self.counts.value(word).unwrap_or("?");
        writeln!(
            out,
            "conformance    {} cases passed, {} failed",
            of("passed"),
            of("failed")
        )?;
        for case in &self.failed {
            writeln!(out, "                FAILED: {}", one_line(case))?;
        }
        if !self.lacks.is_empty() {
            let lacks = self.lacks.join(", ");
            writeln!(
                out,
                "                {} not applicable: they need {lacks}",
                of("not_applicable")
            )?;
        }
        match &self.failure {
            Some(failure) => writeln!(out, "failed         {}", one_line(failure)),
            None => Ok(()),
        }
    }
}

/// A storm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storm {
    /// What the kernel counted.
    pub counts: Values,
    /// The first words that were wrong, as the kernel told them.
    pub examples: Vec<String>,
    /// Why it was not well.
    pub failure: Option<String>,
}

impl Storm {
    /// Reads a storm's end.
    #[must_use]
    pub fn new(ran: &Ran) -> Self {
        let counts = ran.said("storm").next().map(Values::new);
        let missing = counts.is_none().then(|| "it did not come to its end".to_owned());
        Self {
            counts: counts.unwrap_or_default(),
            examples: ran.said("wrong").take(5).map(str::to_owned).collect(),
            failure: ran.failure.clone().or(missing),
        }
    }

    /// True where it came to its end with nothing lost, wrong or leaked.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let none = |word| self.counts.number(word) == Some(0);
        self.failure.is_none() && none("lost_writes") && none("wrong_reads") && none("leaked")
    }
}

/// A boot's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The emulator.
    pub qemu: String,
    /// CPUs.
    pub cpus: u8,
    /// Who ran them.
    pub accelerator: Accelerator,
    /// The conformance kit.
    pub kit: Kit,
    /// The scenarios.
    pub scenarios: Scenarios,
    /// The storms.
    pub storms: Vec<Storm>,
}

impl Report {
    /// Makes a report of nothing yet.
    #[must_use]
    pub fn new(qemu: String, cpus: u8, accelerator: Accelerator) -> Self {
        Self {
            qemu,
            cpus,
            accelerator,
            kit: Kit::default(),
            scenarios: Scenarios::default(),
            storms: Vec::new(),
        }
    }

    /// Takes the scenarios that a machine ran and compares their traces with the model's.
    pub fn compare(&mut self, ran: &Ran) {
        let scenarios = &mut self.scenarios;
        for (name, trace) in same_trace::traces(ran) {
            match same_trace::of_the_model(&name) {
                Ok(model) if model == trace => scenarios.same.push(name),
                _ => scenarios.different.push(name),
            }
        }
        for rest in ran.said("not_applicable") {
            scenarios.not_applicable += 1;
            let lacks = rest.split_once(' ').map_or("", |(_, lacks)| lacks);
            scenarios.lacks.extend(lacks.split(", ").map(str::to_owned));
        }
        let none = (scenarios.same.is_empty() && scenarios.different.is_empty()).then(|| "none ran".to_owned());
        scenarios.failure = ran.failure.clone().or(none);
    }

    /// True where no case failed, every trace is the model's and every storm was good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let scenarios = &self.scenarios;
        let good = self.kit.is_good() && scenarios.different.is_empty() && scenarios.failure.is_none();
        good && !self.storms.is_empty() && self.storms.iter().all(Storm::is_good)
    }

    /// Returns the report as one JSON object, in one line.
    #[must_use]
    pub fn json(&self) -> String {
        let storm = |storm: &Storm| {
            let mut object = storm.counts.object();
            object.insert("examples".into(), json!(storm.examples));
            object.insert("failure".into(), json!(storm.failure));
            Value::Object(object)
        };
        let scenarios = &self.scenarios;
        let mut kit = self.kit.counts.object();
        kit.insert("lacks".into(), json!(self.kit.lacks));
        kit.insert("failed_cases".into(), json!(self.kit.failed));
        kit.insert("failure".into(), json!(self.kit.failure));
        let object = json!({
            "qemu": self.qemu,
            "accelerator": self.accelerator.word(),
            "cpus": self.cpus,
            "conformance": kit,
            "scenarios": {
                "same_as_the_model": scenarios.same,
                "different": scenarios.different,
                "not_applicable": scenarios.not_applicable,
                "lacks": scenarios.lacks,
                "failure": scenarios.failure,
            },
            "storms": self.storms.iter().map(storm).collect::<Vec<_>>(),
            "good": self.is_good(),
        });
        object.to_string()
    }

    /// Returns the report as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_text(&mut out);
        out.truncate(out.trim_end().len());
        out
    }

    fn write_text(&self, out: &mut String) -> core::fmt::Result {
        let opinion = match self.accelerator {
            Accelerator::Tcg => "",
            Accelerator::Kvm => ": a second opinion; TCG's is the first",
        };
        writeln!(
            out,
            "{}, {} CPUs, {}{opinion}",
            self.qemu,
            self.cpus,
            self.accelerator.word()
        )?;
        self.kit.write_text(out)?;
        let Scenarios { same, different, .. } = &self.scenarios;
        let ran = same.len() + different.len();
        writeln!(
            out,
            "scenarios      {ran} ran in ring 3; {} with the model's trace, byte for byte",
            same.len()
        )?;
        for name in different {
            writeln!(out, "                DIFFERENT: {name}")?;
        }
        let lacks: Vec<_> = self.scenarios.lacks.iter().map(String::as_str).collect();
        if self.scenarios.not_applicable > 0 {
            let lacks = lacks.join(", ");
            writeln!(
                out,
                "                {} not applicable: they need {lacks}",
                self.scenarios.not_applicable
            )?;
        }
        if let Some(failure) = &self.scenarios.failure {
            writeln!(out, "failed         {}", one_line(failure))?;
        }
        self.storms.iter().try_for_each(|storm| storm.write_text(out))
    }
}

impl Storm {
    fn write_text(&self, out: &mut String) -> core::fmt::Result {
        let of = |word| self.counts.value(word).unwrap_or("?");
        writeln!(out, "\nstorm          profile {}, mode {}", of("profile"), of("mode"))?;
        writeln!(out, "moved          {} in {} runs", of("moved"), of("runs"))?;
        writeln!(out, "stayed         {}, tried again {}", of("stayed"), of("retried"))?;
        writeln!(
            out,
            "faults         {} zeroed, {} copied on write, {} reused, {} waited, {} for nothing",
            of("zeroed"),
            of("copied"),
            of("reused"),
            of("waited"),
            of("spurious")
        )?;
        writeln!(out, "forks          {}", of("forks"))?;
        writeln!(
            out,
            "shootdowns     {}, {} interrupts sent",
            of("shootdowns"),
            of("interrupts")
        )?;
        writeln!(out, "leaked         {} frames", of("leaked"))?;
        writeln!(
            out,
            "lost writes    {} of {} words written",
            of("lost_writes"),
            of("words_written")
        )?;
        writeln!(
            out,
            "wrong reads    {} of {} words read",
            of("wrong_reads"),
            of("words_read")
        )?;
        for example in &self.examples {
            writeln!(out, "                {}", one_line(example))?;
        }
        if let Some(failure) = &self.failure {
            writeln!(out, "failed         {}", one_line(failure))?;
        }
        Ok(())
    }
}
