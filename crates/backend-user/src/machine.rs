//! A machine: nodes of frames, and everything that lives in them.

use core::sync::atomic::AtomicUsize;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::{Mutex, OnceLock};

use mm_types::{MappingId, NodeId, PAGE_SIZE, Pfn};

use crate::error::MachineError;
use crate::file::Cached;
use crate::files::MappedFile;
use crate::kernel::{Kernel, Options, Readable};
use crate::migrate::Scratch;
use crate::missing::Listener;
use crate::private::{Engine, EngineInUse, Private};
use crate::server;
use crate::spaces::Space;
use crate::stats::Stats;
use crate::sys::altstack::AltStack;
use crate::sys::node::NodeMemory;
use crate::sys::numa;
use crate::sys::server::FaultServer;
use crate::sys::uffd::Uffd;
use crate::trace::Recording;

/// Requests that fault handlers can have under way; more wait.
const REQUESTS: usize = 64;

/// Nodes of frames, spaces, files, and the threads' faults. Cheap to clone: all clones are the same machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) inner: Arc<Inner>,
}

/// What goes when the last handle does. The order matters: the server stops before the memory is given back.
#[derive(Debug)]
pub(crate) struct Inner {
    /// Stops first: it asks nobody, but the server may be what a stand-in of it waits for.
    _listener: Option<Listener>,
    _server: FaultServer,
    pub(crate) kernel: Arc<Kernel>,
    engine: EngineInUse,
    pub(crate) scratch: Mutex<Vec<Scratch>>,
}

/// A machine to be made.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: usize,
    frames_per_node: usize,
    areas: usize,
    bind: bool,
    engine: Engine,
    user_faults_only: bool,
    pub(crate) options: Options,
    trace: Option<Arc<Recording>>,
}

/// Makes sure that the calling thread has a stack that faults can be handled on, for as long as the guard lives.
///
/// # Errors
/// What the system answers.
pub fn enter_thread() -> Result<AltStack, MachineError> {
    AltStack::ensure().map_err(MachineError::AltStack)
}

impl Machine {
    /// Begins a machine of two nodes of 64 MiB.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            nodes: 2,
            frames_per_node: (64 << 20) / PAGE_SIZE,
            areas: 1024,
            bind: true,
            engine: Engine::default(),
            user_faults_only: false,
            options: Options {
                readable: Readable::NobodyWrites,
                around: 16,
                ballast: 2048,
                large: true,
                learn_dirty: false,
                exclusive: true,
                populate: false,
            },
            trace: None,
        }
    }

    /// Returns how many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.inner.kernel.nodes.len()
    }

    /// Returns how many frames each node has.
    #[must_use]
    pub fn frames_per_node(&self) -> usize {
        self.inner.kernel.frames_per_node
    }

    /// Returns how many frames of `node` are free.
    #[must_use]
    pub fn free_on(&self, node: NodeId) -> usize {
        self.inner.kernel.free_on(node)
    }

    /// Returns how many frames of `node` hold pages. Drains the LRU's staging, which keeps pages a while that nobody else does.
    #[must_use]
    pub fn pages_on(&self, node: NodeId) -> usize {
        migrate_core::Lru::drain(self.kernel());
        if usize::from(node.raw()) < self.nodes() {
            self.frames_per_node() - self.free_on(node)
        } else {
            0
        }
    }

    /// Returns the node that a frame is of.
    #[must_use]
    pub fn node_of(&self, pfn: Pfn) -> NodeId {
        self.inner.kernel.node_of(pfn)
    }

    /// Returns which engine moves private pages, and why.
    #[must_use]
    pub fn engine(&self) -> EngineInUse {
        self.inner.engine
    }

    /// Lets pages that are touched for the first time have their frames on `node`, as long as it has any.
    ///
    /// # Errors
    /// The machine has no such node.
    pub fn prefer(&self, node: NodeId) -> Result<(), MachineError> {
        if usize::from(node.raw()) >= self.nodes() {
            return Err(MachineError::NoNode(node));
        }
        self.inner.kernel.prefer(node);
        Ok(())
    }

    /// Makes an address space: a range of `pages` pages of this process.
    ///
    /// # Errors
    /// No pages, no addresses, or no room for another fault range.
    pub fn space(&self, pages: usize) -> Result<Space, MachineError> {
        Space::new(&self.inner, pages)
    }

    /// Opens a file, for reading; its pages are read when they are touched.
    ///
    /// # Errors
    /// What opening it answers.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<MappedFile, MachineError> {
        self.open_with(path.as_ref(), false)
    }

    /// Opens a file for reading and writing: shared mappings of it may be writable, and what is written goes to the file by
    /// [`MappedFile::sync`].
    ///
    /// # Errors
    /// What opening it answers.
    pub fn open_rw(&self, path: impl AsRef<Path>) -> Result<MappedFile, MachineError> {
        self.open_with(path.as_ref(), true)
    }

    fn open_with(&self, path: &Path, writable: bool) -> Result<MappedFile, MachineError> {
        let failed = |error| MachineError::File {
            path: path.display().to_string(),
            error,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // It can be opened, and nothing of it be read.
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let len = metadata.len();
        let pages = usize::try_from(len.div_ceil(PAGE_SIZE as u64)).map_err(|_| MachineError::Denied)?;
        let mut areas = self.inner.kernel.areas_mut();
        let id = MappingId::new(u32::try_from(areas.files.len()).unwrap_or(u32::MAX));
        let cached = Arc::new(Cached {
            id,
            file,
            path: path.display().to_string(),
            writable,
            mover: migrate_core::Mover::Plain,
            pages: AtomicUsize::new(pages),
            placed: OnceLock::new(),
        });
        areas.files.push(Some(cached.clone()));
        drop(areas);
        Ok(MappedFile::new(&self.inner, cached))
    }

    /// Returns what the machine has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.kernel.stats()
    }

    /// Forgets how long accesses were blocked so far.
    pub fn forget_stalls(&self) {
        self.inner.kernel.stalls.clear();
    }

    /// Recounts references, mappings, lists and free frames, and compares tables with ranges, at a moment when no migration is in
    /// progress and nobody faults.
    ///
    /// # Errors
    /// The first difference, in words: the machine is broken.
    pub fn check(&self) -> Result<(), String> {
        migrate_core::Lru::drain(self.kernel());
        self.kernel().recount()
    }

    /// Returns the backend behind the seam, for who drives the core without [`Machine::migrate`].
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.inner.kernel
    }
}

impl Builder {
    /// Sets how many nodes there are.
    #[must_use]
    pub const fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets how many frames each node has.
    #[must_use]
    pub const fn frames_per_node(mut self, frames: usize) -> Self {
        self.frames_per_node = frames;
        self
    }

    /// Sets how many areas there can be, in all spaces.
    #[must_use]
    pub const fn areas(mut self, areas: usize) -> Self {
        self.areas = areas;
        self
    }

    /// Sets whether a page that only one site maps, writable, may be read while it is copied; its writers wait either way. By
    /// default its readers wait too: taking only the write permission costs about half a copy more for each page.
    ///
    /// Pages that nobody can write may always be read meanwhile, but under 2006 rules.
    #[must_use]
    pub const fn readable_while_copied(mut self, yes: bool) -> Self {
        self.options.readable = if yes { Readable::OneSite } else { Readable::NobodyWrites };
        self
    }

    /// Lets nobody read a page while it is copied, as 2006 did.
    #[must_use]
    pub const fn hidden_while_copied(mut self) -> Self {
        self.options.readable = Readable::Never;
        self
    }

    /// Sets how many pages a demand fault brings in, where neighbours are missing too; 1 for only the page touched.
    #[must_use]
    pub const fn fault_around(mut self, pages: usize) -> Self {
        self.options.around = pages;
        self
    }

    /// Sets how many mappings are held in reserve for finishing and undoing when the limit is reached.
    #[must_use]
    pub const fn ballast(mut self, mappings: usize) -> Self {
        self.options.ballast = mappings;
        self
    }

    /// Sets whether translations of moved pages are made at once, rather than by a fault of the next access.
    #[must_use]
    pub const fn populate(mut self, yes: bool) -> Self {
        self.options.populate = yes;
        self
    }

    /// Sets whether blocks of 512 frames are made large pages of memory, where the system can (Linux 6.1): mapping neighbours is
    /// far cheaper then. Memory is taken 64 MiB at a time then, when the first frame of them is.
    #[must_use]
    pub const fn large_pages(mut self, yes: bool) -> Self {
        self.options.large = yes;
        self
    }

    /// Sets which engine moves the pages of private anonymous areas. The second is faster and meets no limit of mappings, and
    /// spaces with such areas cannot be forked then, nor the areas shared.
    #[must_use]
    pub const fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Lets the second engine do without hearing of system calls' faults, as a process without the permission has to.
    #[must_use]
    pub const fn user_faults_only(mut self, yes: bool) -> Self {
        self.user_faults_only = yes;
        self
    }

    /// Sets whether the memory of node *n* is bound to the *n*th real node, where the machine has several.
    #[must_use]
    pub const fn bind(mut self, yes: bool) -> Self {
        self.bind = yes;
        self
    }

    /// Records every step of every migration and every fault that met one.
    #[must_use]
    pub fn trace(mut self, recording: Arc<Recording>) -> Self {
        self.trace = Some(recording);
        self
    }

    /// Chooses the engine for private pages.
    fn private_pages(&self, real: &[Option<u32>]) -> Result<(Option<Private>, EngineInUse), MachineError> {
        if self.engine == Engine::Shared {
            return Ok((None, EngineInUse::Shared(None)));
        }
        match Uffd::open(self.user_faults_only) {
            Ok(uffd) => {
                let engine = EngineInUse::Private(uffd.system_calls());
                let private = Private::new(uffd, self.frames_per_node, self.options.large, real)?;
                Ok((Some(private), engine))
            }
            Err(why) if self.engine == Engine::Auto => Ok((None, EngineInUse::Shared(Some(why)))),
            Err(why) => Err(why.into()),
        }
    }

    /// Makes the machine. Its memory is taken when it is first used.
    ///
    /// # Errors
    /// A size that makes no sense or is not available, or what the system answers.
    pub fn build(self) -> Result<Machine, MachineError> {
        if self.nodes == 0 || self.nodes >= usize::from(u16::MAX) {
            return Err(MachineError::NoNodes);
        }
        let real = if self.bind { numa::real_nodes() } else { Vec::new() };
        // On a machine with one node there is nothing to choose.
        let real_of = |n: usize| real.get(n % real.len().max(1)).filter(|_| real.len() > 1).copied();
        let real_of: Vec<_> = (0..self.nodes).map(real_of).collect();
        let nodes: Result<Vec<_>, _> = (0u16..)
            .zip(&real_of)
            .map(|(n, real)| NodeMemory::new(NodeId::new(n), self.frames_per_node, *real))
            .collect();
        let (private, engine) = self.private_pages(&real_of)?;
        let kernel = Kernel::new(
            nodes?,
            private,
            self.frames_per_node,
            self.areas,
            self.options,
            self.trace,
        )?;
        let kernel = Arc::new(kernel);
        let listener = kernel
            .private
            .clone()
            .map(|private| Listener::start(kernel.clone(), private));
        let listener = listener.transpose().map_err(MachineError::Server)?;
        let of_server = kernel.clone();
        let server = FaultServer::start(REQUESTS, move |request| server::serve(&of_server, request))
            .map_err(MachineError::Server)?;
        let set = kernel.desk.set(server.desk());
        debug_assert!(set.is_ok(), "a new kernel has no server");
        Ok(Machine {
            inner: Arc::new(Inner {
                _listener: listener,
                _server: server,
                kernel,
                engine,
                scratch: Mutex::new(Vec::new()),
            }),
        })
    }
}
