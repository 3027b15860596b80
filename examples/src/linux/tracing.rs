//! An instance of the kernel's tracing of our own, so that nobody else's is disturbed.

use core::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where tracefs is.
const TRACEFS: &str = "/sys/kernel/tracing";
const TRACEFS_C: &CStr = c"/sys/kernel/tracing";

/// Events of the system `migrate`, recorded in an instance that is gone when this is dropped. tracefs is mounted if it is not, and then
/// unmounted again.
#[derive(Debug)]
pub struct Tracing {
    instance: PathBuf,
    /// Open, so that nobody else who is done takes tracefs away.
    held: Option<File>,
    mounted: Option<Mounted>,
}

#[derive(Debug)]
struct Mounted;

impl Drop for Mounted {
    fn drop(&mut self) {
        // SAFETY: a path that ends in a zero; what is unmounted is what was mounted here. Busy is an answer too: somebody else uses it now.
        let _ = unsafe { libc::umount2(TRACEFS_C.as_ptr(), 0) };
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.instance);
        self.held = None;
        // Only now: an instance is a directory of it.
        self.mounted = None;
    }
}

fn mount() -> Result<Mounted, String> {
    // SAFETY: three texts that end in a zero, no flags and no data.
    let rc = unsafe {
        libc::mount(
            c"nodev".as_ptr(),
            TRACEFS_C.as_ptr(),
            c"tracefs".as_ptr(),
            0,
            core::ptr::null(),
        )
    };
    match rc {
        0 => Ok(Mounted),
        _ => Err(format!(
            "tracefs cannot be mounted at {TRACEFS}: {}",
            io::Error::last_os_error()
        )),
    }
}

impl Tracing {
    /// Makes an instance that records these events of the system `migrate`, in buffers of `buffer_kb` for each processor; it is off.
    ///
    /// # Errors
    /// Why this kernel cannot, or we may not.
    pub fn new(events: &[&str], buffer_kb: usize) -> Result<Self, String> {
        let tracefs = Path::new(TRACEFS);
        if !tracefs.is_dir() {
            return Err(format!("this kernel has no {TRACEFS} (CONFIG_TRACING)"));
        }
        let there = tracefs.join("events").is_dir();
        let mounted = (!there).then(mount).transpose()?;
        let absent = events
            .iter()
            .find(|event| !tracefs.join("events/migrate").join(event).is_dir());
        if let Some(event) = absent {
            return Err(format!(
                "this kernel has no event migrate:{event} (Linux 5.18 and later have)"
            ));
        }
        let instance = tracefs.join(format!("instances/migrate.{}", std::process::id()));
        fs::create_dir(&instance).map_err(|error| format!("{}: {error}", instance.display()))?;
        let held = File::open(&instance).ok();
        let tracing = Self {
            instance,
            held,
            mounted,
        };
        tracing.on(false)?;
        tracing.write("buffer_size_kb", &buffer_kb.to_string())?;
        for event in events {
            tracing.write(&format!("events/migrate/{event}/enable"), "1")?;
        }
        Ok(tracing)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.instance.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Records what the calling thread does, and nobody else.
    ///
    /// # Errors
    /// What writing to the instance answers; so with the others.
    pub fn only_this_thread(&self) -> Result<(), String> {
        // SAFETY: a system call without arguments that cannot fail.
        let tid = unsafe { libc::gettid() };
        self.write("set_event_pid", &tid.to_string())
    }

    /// Begins or ends recording.
    ///
    /// # Errors
    /// As above.
    pub fn on(&self, on: bool) -> Result<(), String> {
        self.write("tracing_on", if on { "1" } else { "0" })
    }

    /// Forgets what was recorded.
    ///
    /// # Errors
    /// As above.
    pub fn clear(&self) -> Result<(), String> {
        self.write("trace", "")
    }

    /// Returns what was recorded, as text.
    ///
    /// # Errors
    /// What reading answers.
    pub fn text(&self) -> Result<Vec<u8>, String> {
        let path = self.instance.join("trace");
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }
}
