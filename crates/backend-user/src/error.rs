//! What can go wrong, in one line each.

use std::io;

use mm_types::{AnonVmaError, NodeId, VmaError};

use crate::sys::error::{Errno, MapError};
use crate::sys::fault::RegisterError;
use crate::sys::node::NodeError;
use crate::sys::uffd::UffdError;

/// Why a machine, or a space of one, would not do it; what was there before is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A machine has at least one node.
    #[error("a machine needs at least one node, and at most {}", u16::MAX)]
    NoNodes,
    /// A space or an area has at least one page.
    #[error("at least one page is needed")]
    NoPages,
    /// The memory of a node could not be had.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The range of a space could not be had, or pages could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Faults could not be asked for.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The fault server could not be started.
    #[error("the fault server: {0}")]
    Server(io::Error),
    /// There is no room in the space for an area of this size.
    #[error("no {0} free neighbouring pages in the space: make it larger, or unmap an area")]
    SpaceFull(usize),
    /// The tables of areas are full, or the area is gone.
    #[error("{0}{more}", more = more_areas(matches!(.0, VmaError::Full(_))))]
    Vma(#[from] VmaError),
    /// The tables of reverse-map roots are full.
    #[error("{0}{more}", more = more_areas(matches!(.0, AnonVmaError::Full)))]
    AnonVma(#[from] AnonVmaError),
    /// The machine has no such node.
    #[error("node {} does not exist", .0.raw())]
    NoNode(NodeId),
    /// No frame is free on any node.
    #[error("no frame is free on any node: unmap something, or give the nodes more frames")]
    NoFrame,
    /// The area belongs to another machine or another space.
    #[error("the area belongs to another machine or space")]
    Foreign,
    /// The pages lie outside the area.
    #[error("the pages lie outside the area")]
    OutOfArea,
    /// [`Prot::None`](crate::Prot::None) was asked for.
    #[error("an area must allow something: reading, or reading and writing")]
    NothingAllowed,
    /// The access is not allowed by the area, or lies beyond the end of its file.
    #[error("the mapping does not allow this access")]
    Denied,
    /// A file could not be opened, read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// A shared, writable mapping of a file that was opened for reading.
    #[error("{0}: opened for reading only, so it cannot be mapped shared and writable")]
    ReadOnlyFile(String),
    /// The engine that was asked for cannot be had.
    #[error("private pages cannot move by userfaultfd: {0}")]
    Engine(#[from] UffdError),
    /// A page of the second engine has one place.
    #[error(
        "pages of this area move by userfaultfd and have one place each: make the area shared, or the machine with Engine::Shared"
    )]
    OnePlace,
    /// The calling thread could not be given an alternate stack.
    #[error("no alternate stack for the calling thread: {0}")]
    AltStack(Errno),
}

// What a table lacks is the builder's to give.
const fn more_areas(full: bool) -> &'static str {
    if full {
        ": unmap one, or make the machine with more (Builder::areas)"
    } else {
        ""
    }
}
