//! How freed memory is kept.

/// Asks the allocator to keep freed memory for the next allocation rather than give it back to the system.
///
/// A training step allocates and frees large activations again and again; glibc maps each one anew, and the page faults of that take as
/// long as the arithmetic. Where the allocator is not glibc's this does nothing. The process keeps its peak memory until it ends, so this
/// is for training, not for serving.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt only sets parameters of the allocator, under its own lock; any values are allowed.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        }
    }
}
