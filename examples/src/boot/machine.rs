//! Building the kernel, and QEMU.

use core::str::FromStr;
use core::time::Duration;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};

/// The emulator's name.
pub const QEMU: &str = "qemu-system-x86_64";
/// A machine that says nothing for so long is stuck.
const SILENCE: Duration = Duration::from_secs(300);
/// What QEMU ends with where the kernel says that all is well (isa-debug-exit: twice 16, and one).
const GOOD: i32 = 33;

/// Why there is no booted machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The emulator is not there.
    #[error(
        "{QEMU} is not on the PATH: `apt-get install qemu-system-x86` (Debian, Ubuntu) or `dnf install qemu-system-x86-core` (Fedora)"
    )]
    NoQemu,
    /// The kernel could not be built.
    #[error("the kernel was not built: {0}")]
    Build(String),
    /// A program could not be run.
    #[error("{program}: {error}")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        error: std::io::Error,
    },
}

/// Who runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU itself, which keeps translations as a CPU does until they are invalidated.
    Tcg,
    /// The host's CPU, or what emulates it: a second opinion.
    Kvm,
}

impl Accelerator {
    /// Returns QEMU's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

impl FromStr for Accelerator {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Tcg, Self::Kvm];
        let found = all.into_iter().find(|one| one.word() == word);
        found.ok_or_else(|| format!("{word} is neither tcg nor kvm"))
    }
}

/// Finds the emulator.
///
/// # Errors
/// [`MachineError::NoQemu`].
pub fn find_qemu() -> Result<PathBuf, MachineError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(QEMU));
    places.find(|place| place.is_file()).ok_or(MachineError::NoQemu)
}

/// Returns what the emulator says of itself.
///
/// # Errors
/// [`MachineError::Run`].
pub fn version(qemu: &Path) -> Result<String, MachineError> {
    let output = Command::new(qemu).arg("--version").output();
    let output = output.map_err(|error| MachineError::Run { program: QEMU, error })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or("QEMU").to_owned())
}

/// Builds the kernel with additional `--cfg`s of the compiler, and returns where it is.
///
/// # Errors
/// [`MachineError`], with what cargo said last.
pub fn build(cfgs: &[&str]) -> Result<PathBuf, MachineError> {
    let root = super::root();
    let kind = if cfgs.is_empty() {
        "kernel".to_owned()
    } else {
        format!("kernel-{}", cfgs.join("-"))
    };
    let target = root.join("target").join(kind);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(root.join("examples/kernel"))
        .stdin(Stdio::null());
    // What the caller's build was told is not meant for this one, which has its own configuration.
    for variable in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(variable);
    }
    for cfg in cfgs {
        let flags = format!("target.x86_64-unknown-none.rustflags=[\"--cfg={cfg}\"]");
        command.args(["--config", &flags]);
    }
    let output = command.output();
    let output = output.map_err(|error| MachineError::Run {
        program: "cargo",
        error,
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("cargo failed");
        return Err(MachineError::Build(error.to_owned()));
    }
    Ok(target.join("x86_64-unknown-none/release/small-kernel"))
}

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its CPUs.
    pub cpus: u8,
    /// Who runs it.
    pub accelerator: Accelerator,
    /// More of QEMU's options.
    pub more: Vec<&'static str>,
}

/// What a machine did.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Lines on the serial line.
    pub lines: Vec<String>,
    /// Why it was not well, in words; `None` where it said that all is well.
    pub failure: Option<String>,
}

impl Ran {
    /// Returns the rest of the lines that begin with `word` and a space.
    pub fn said<'r>(&'r self, word: &'r str) -> impl Iterator<Item = &'r str> {
        self.lines
            .iter()
            .filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }
}

impl Machine {
    /// Boots it with a command line and waits for its end; `hear` gets each line when it comes.
    ///
    /// # Errors
    /// [`MachineError::Run`] where QEMU could not be started.
    pub fn run(&self, qemu: &Path, command_line: &str, mut hear: impl FnMut(&str)) -> Result<Ran, MachineError> {
        let cpus = self.cpus.to_string();
        let mut command = Command::new(qemu);
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
                "-monitor",
                "none",
            ])
            .args([
                "-machine", "q35", "-cpu", "max", "-m", "128", "-smp", &cpus, "-serial", "stdio",
            ])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        if self.more.is_empty() {
            command.args(["-accel", self.accelerator.word()]);
        }
        command
            .args(&self.more)
            .arg("-kernel")
            .arg(&self.kernel)
            .args(["-append", &format!("cpus={cpus} {command_line}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |error| MachineError::Run { program: QEMU, error };
        let mut child = command.spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (heard, lines) = mpsc::channel();
        let listener = std::thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody listens any more once the machine is given up.
            let _ = lines.map(|line| heard.send(line)).find(Result::is_err);
        });
        let mut ran = Ran::default();
        loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    hear(&line);
                    ran.lines.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    ran.failure = Some(format!("it said nothing for {} s", SILENCE.as_secs()));
                    child.kill().map_err(failed)?;
                    break;
                }
            }
        }
        let status = child.wait().map_err(failed)?;
        let _ = listener.join();
        if ran.failure.is_none() && status.code() != Some(GOOD) {
            let mut errors = String::new();
            if let Some(mut stderr) = stderr {
                // What cannot be read is not told.
                let _ = stderr.read_to_string(&mut errors);
            }
            let said = ran.said("failed").next().unwrap_or_else(|| errors.trim());
            ran.failure = Some(format!("{status}: {said}"));
        }
        Ok(ran)
    }
}
