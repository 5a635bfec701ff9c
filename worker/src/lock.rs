//! Locks on devices, across processes: a measurement has its GPUs, and the CPU if it computes there, to itself.
//!
//! One file per device in a folder that every user of the machine may write to; the lock ends with the process that
//! holds it. Files are taken in one fixed order, so that two measurements never wait for each other.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fleetune_core::inventory::Gpu;
use fleetune_core::runner::{Settings, SplitMode};
use thiserror::Error;

/// Shortest and longest pause between two looks at a lock that somebody holds. A blocking wait could not be
/// cancelled.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_millis(250);

/// Something that one measurement at a time may use. The order is the one in which locks are taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// A GPU, by the driver's persistent id, else by its position.
    Gpu(String),
    /// The processor and its memory.
    Cpu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu(id) => write!(f, "GPU {id}"),
            Self::Cpu => f.write_str("CPU"),
        }
    }
}

/// The devices that a run with `settings` computes on.
///
/// `gpus`: those of the machine that the engine can use; empty for an engine without GPU support. `layers`: those
/// there are to offload, the output layer counted; 0 when unknown, which locks the CPU too unless all are asked for.
pub fn devices_of(settings: &Settings, gpus: &[Gpu], layers: u32) -> BTreeSet<Device> {
    let mut devices = BTreeSet::new();
    let on_gpu = settings.n_gpu_layers.unwrap_or(-1);
    for gpu in gpus {
        let other = settings.split_mode == Some(SplitMode::None) && settings.main_gpu.unwrap_or(0) != gpu.index;
        // Even without layers on it a GPU takes the large operations of host tensors, unless told not to.
        let unused = on_gpu == 0 && settings.op_offload == Some(false);
        if !other && !unused {
            let id = if gpu.uuid.is_empty() { format!("{}-{}", gpu.vendor, gpu.index) } else { gpu.uuid.clone() };
            devices.insert(Device::Gpu(id));
        }
    }
    let some_on_host = u32::try_from(on_gpu).is_ok_and(|on_gpu| layers == 0 || on_gpu < layers);
    if devices.is_empty() || some_on_host || settings.offload_kqv == Some(false) {
        devices.insert(Device::Cpu);
    }
    devices
}

/// Why devices could not be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// A lock file cannot be used.
    #[error(
        "device lock `{}` cannot be used: {source}; make the folder writable for all, or set `FLEETUNE_LOCK_DIR`",
        path.display()
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The locks of one machine.
#[derive(Clone, Debug)]
pub struct DeviceLocks {
    folder: PathBuf,
}

/// Locked devices, until this value is dropped.
#[derive(Debug)]
pub struct Held {
    files: Vec<File>,
    /// Time it took to get them all.
    pub waited: Duration,
}

impl Held {
    /// How many devices are locked.
    pub fn count(&self) -> usize {
        self.files.len()
    }
}

impl DeviceLocks {
    /// Locks in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Locks in `FLEETUNE_LOCK_DIR`, else in a folder of the system's temporary one that all users share.
    pub fn of_machine() -> Self {
        let folder = std::env::var_os("FLEETUNE_LOCK_DIR").filter(|folder| !folder.is_empty());
        Self::new(folder.map_or_else(|| std::env::temp_dir().join("fleetune-locks"), PathBuf::from))
    }

    /// Locks all of `devices`, waiting until each is free; `waiting` is told once per device that is not. Nothing
    /// stays locked when the future is dropped.
    pub async fn acquire(
        &self,
        devices: &BTreeSet<Device>,
        mut waiting: impl FnMut(&Device) + Send,
    ) -> Result<Held, LockError> {
        let start = Instant::now();
        let mut files = Vec::with_capacity(devices.len());
        for device in devices {
            let path = self.folder.join(file_name(device));
            let failed = |source| LockError::Io { path: path.clone(), source };
            let file = open(&self.folder, &path).map_err(failed)?;
            let mut pause = FIRST_LOOK;
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::Error(source)) => return Err(failed(source)),
                    Err(TryLockError::WouldBlock) => {}
                }
                if pause == FIRST_LOOK {
                    waiting(device);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_LOOK);
            }
            files.push(file);
        }
        Ok(Held { files, waited: start.elapsed() })
    }
}

fn file_name(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu.lock".to_owned(),
        Device::Gpu(id) => {
            let id: String = id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
            format!("gpu-{id}.lock")
        }
    }
}

/// Opens a lock file for whoever it belongs to.
///
/// Not with `O_CREAT` first: Linux refuses that for somebody else's file in a folder like `/tmp`
/// (`fs.protected_regular`). Reading is enough for a lock.
fn open(folder: &Path, path: &Path) -> io::Result<File> {
    let mut tries = 0;
    loop {
        match OpenOptions::new().read(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 3 => tries += 1,
            other => return other,
        }
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
            allow_all(folder, 0o1777);
        }
        match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
            Ok(file) => {
                allow_all(path, 0o666);
                return Ok(file);
            }
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(unix)]
fn allow_all(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    // Where it is refused, the lock still works for this user, and others are told why it does not for them.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
}

#[cfg(not(unix))]
fn allow_all(_path: &Path, _mode: u32) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(index: u32) -> Gpu {
        Gpu { index, uuid: format!("GPU-{index}"), vendor: "nvidia".into(), ..Gpu::default() }
    }

    fn names(settings: &Settings, gpus: &[Gpu]) -> Vec<String> {
        devices_of(settings, gpus, 33).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cpu_is_locked_when_something_computes_there() {
        let layers = |n| Settings { n_gpu_layers: Some(n), ..Settings::default() };
        assert_eq!(names(&Settings::default(), &[]), ["CPU"]);
        assert_eq!(names(&layers(33), &[gpu(0)]), ["GPU GPU-0"]);
        assert_eq!(names(&layers(-1), &[gpu(0)]), ["GPU GPU-0"]);
        assert_eq!(names(&layers(32), &[gpu(0)]), ["GPU GPU-0", "CPU"]);
        assert_eq!(names(&layers(0), &[gpu(0)]), ["GPU GPU-0", "CPU"]);
        let host = Settings { op_offload: Some(false), ..layers(0) };
        assert_eq!(names(&host, &[gpu(0)]), ["CPU"]);
        let cache_on_host = Settings { offload_kqv: Some(false), ..layers(33) };
        assert_eq!(names(&cache_on_host, &[gpu(0)]), ["GPU GPU-0", "CPU"]);
    }

    #[test]
    fn one_gpu_is_locked_when_the_model_is_not_split() {
        let settings = Settings { split_mode: Some(SplitMode::None), main_gpu: Some(1), ..Settings::default() };
        assert_eq!(names(&settings, &[gpu(0), gpu(1)]), ["GPU GPU-1"]);
        assert_eq!(names(&Settings::default(), &[gpu(0), gpu(1)]), ["GPU GPU-0", "GPU GPU-1"]);
    }

    #[tokio::test]
    async fn second_holder_waits_visibly_until_the_first_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let locks = DeviceLocks::new(folder.path().join("locks"));
        let devices = BTreeSet::from([Device::Cpu, Device::Gpu("GPU-0".into())]);
        let first = locks.acquire(&devices, |_| panic!("nobody holds it")).await.unwrap();
        assert_eq!(first.count(), 2);
        let (told, mut waits) = tokio::sync::mpsc::unbounded_channel();
        let second = tokio::spawn({
            let (locks, devices) = (locks.clone(), devices.clone());
            async move { locks.acquire(&devices, |device| told.send(device.clone()).unwrap()).await }
        });
        assert_eq!(waits.recv().await, Some(Device::Gpu("GPU-0".into())));
        assert!(!second.is_finished());
        drop(first);
        let held = tokio::time::timeout(Duration::from_secs(10), second).await.unwrap().unwrap().unwrap();
        assert!(held.waited > Duration::ZERO);
    }

    #[tokio::test]
    async fn cancelled_wait_leaves_nothing_locked() {
        let folder = tempfile::tempdir().unwrap();
        let locks = DeviceLocks::new(folder.path());
        let cpu = locks.acquire(&BTreeSet::from([Device::Cpu]), |_| ()).await.unwrap();
        let both = BTreeSet::from([Device::Cpu, Device::Gpu("a/b".into())]);
        let (told, mut waits) = tokio::sync::mpsc::unbounded_channel();
        tokio::select! {
            _ = locks.acquire(&both, |device| told.send(device.clone()).unwrap()) => panic!("the CPU is taken"),
            device = waits.recv() => assert_eq!(device, Some(Device::Cpu)),
        }
        drop(cpu);
        locks.acquire(&both, |_| panic!("nothing may be locked")).await.unwrap();
    }
}
