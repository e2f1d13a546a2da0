//! How the process takes its memory from the system.

/// Keeps transparent huge pages away from this process.
///
/// The allocator asks for them on all of its memory. A page of 2 MiB is cleared, and counted, as a
/// whole when its first byte is touched: measured, an idle node with the sample database held 60 MiB
/// more, and COPY of a million rows took twice as long, most of it in the kernel looking for and
/// clearing huge pages.
pub fn prefer_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        // An old kernel, or a sandbox: slower, but right.
        eprintln!("phantomdb: transparent huge pages stay on: {error}");
    }
}
