//! What the runner asks of the operating system.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use fleetune_core::runner::CpuList;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getppid};

use crate::failure::Failure;

/// Physical cores this process may use, at least 1: llama.cpp's default number of threads.
pub(crate) fn physical_cores() -> u32 {
    let allowed = thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    let found = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cores_in(&text));
    found.unwrap_or(allowed).clamp(1, allowed)
}

/// Different pairs of socket and core in `/proc/cpuinfo`; `None` where it does not tell (Arm, some containers).
fn cores_in(cpuinfo: &str) -> Option<u32> {
    let mut cores = BTreeSet::new();
    let mut socket = "";
    for line in cpuinfo.lines() {
        match line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("physical id", id)) => socket = id,
            Some(("core id", id)) => {
                cores.insert((socket, id));
            }
            _ => {}
        }
    }
    u32::try_from(cores.len()).ok().filter(|count| *count > 0)
}

/// Binds this process, and the threads it will start, to `cpus`.
#[cfg(target_os = "linux")]
pub(crate) fn bind(cpus: &CpuList) -> Result<(), Failure> {
    use nix::sched::{CpuSet, sched_setaffinity};

    let mut set = CpuSet::new();
    cpus.cpus()
        .try_for_each(|cpu| set.set(cpu as usize))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| Failure::Refused(format!("cannot run on the CPUs {cpus}: {}", errno.desc())))
}

/// Binding is a Linux matter.
#[cfg(not(target_os = "linux"))]
pub(crate) fn bind(cpus: &CpuList) -> Result<(), Failure> {
    Err(Failure::Refused(format!("cannot run on the CPUs {cpus}: only Linux binds a process to CPUs")))
}

/// Highest resident memory of this process so far, MiB.
pub(crate) fn ram_peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = peak_in(&status) {
        return kib / 1024.0;
    }
    // Kilobytes everywhere but on macOS, where it is bytes.
    let unit = if cfg!(target_os = "macos") { 1.0 } else { 1024.0 };
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        .map_or(0.0, |usage| usage.max_rss() as f64 * unit / f64::from(1 << 20))
}

/// `VmHWM` of `/proc/self/status`, KiB.
fn peak_in(status: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Ends this process soon after its parent is gone: an orphan would hold a device that the next trial believes free.
///
/// Its parent may be gone before this is called, and its orphan's parent is then somebody who stays: the worker says
/// who it is in `FLEETUNE_WORKER_PID`. A script in between is a parent too. Not by `PR_SET_PDEATHSIG`, which tells of
/// the end of the parent's *thread*, and a worker's threads may end before it does.
pub(crate) fn die_with_parent() {
    const INTERVAL: Duration = Duration::from_millis(100);
    let parent = getppid();
    let worker = std::env::var("FLEETUNE_WORKER_PID").ok().and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
    if worker.is_some_and(is_gone) {
        std::process::exit(1);
    }
    thread::spawn(move || {
        while getppid() == parent && !worker.is_some_and(is_gone) {
            thread::sleep(INTERVAL);
        }
        std::process::exit(1);
    });
}

/// Whether there is no process `pid`. One of another user is there.
fn is_gone(pid: Pid) -> bool {
    pid.as_raw() > 0 && kill(pid, None) == Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_threads_of_a_core_count_once() {
        let cpu = |socket, core| format!("processor\t: 0\nphysical id\t: {socket}\ncore id\t\t: {core}\n\n");
        let text = [cpu(0, 0), cpu(0, 1), cpu(0, 0), cpu(0, 1), cpu(1, 0)].concat();
        assert_eq!(cores_in(&text), Some(3));
        assert_eq!(cores_in("BogoMIPS\t: 50.00\n"), None);
        assert!(physical_cores() >= 1);
    }

    #[test]
    fn ended_process_is_gone_and_a_living_one_is_not() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_gone(Pid::from_raw(i32::try_from(child.id()).unwrap())));
        assert!(!is_gone(nix::unistd::getpid()) && !is_gone(Pid::from_raw(0)));
    }

    #[test]
    fn peak_memory_is_read_from_the_status_file() {
        assert_eq!(peak_in("VmPeak:\t 99 kB\nVmHWM:\t    2048 kB\n"), Some(2048.0));
        assert!(ram_peak_mib() > 1.0);
    }
}
