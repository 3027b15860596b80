//! Where it was measured, and what.

use std::fs;
use std::process::Command;

use backend_user::sys::numa::real_nodes;
use docs_gen::performance::Host;

use super::args::processors;

fn first_line(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim_start_matches(['\t', ' ', ':']).trim().to_owned())
}

/// Describes this machine.
#[must_use]
pub fn host() -> Host {
    let unknown = || "an unknown processor".to_owned();
    let memory = first_line("/proc/meminfo", "MemTotal").and_then(|kib| kib.split(' ').next()?.parse::<u64>().ok());
    Host {
        processor: first_line("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        cores: processors() as u64,
        memory: memory.unwrap_or(0) << 10,
        nodes: real_nodes().len().max(1) as u64,
        kernel: first_line("/proc/sys/kernel/osrelease", "").unwrap_or_default(),
    }
}

/// Names the commit of the current directory's repository, with `+` where files that it knows have changes; `unknown` where there is none.
#[must_use]
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let told = Command::new("git")
            .args(args)
            .output()
            .ok()
            .filter(|told| told.status.success())?;
        Some(String::from_utf8_lossy(&told.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    format!("{commit}{}", if changed { "+" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let host = host();
        assert!(host.memory > 0 && host.cores > 0 && host.nodes > 0, "{host:?}");
        assert!(host.kernel.starts_with(|c: char| c.is_ascii_digit()), "{host:?}");
    }
}
