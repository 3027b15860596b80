//! Page migration with migration entries: the algorithm and the seam a kernel implements.
#![no_std]
#![forbid(unsafe_code)]
