//! One benchmark by `llama-bench`: its prompt and generation tests, reported as repetitions.
//!
//! Its measurements come at the end of each test, so that a pruner sees a trial only when it is over.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use fleetune_core::runner::{Buffer, EffectiveSettings, EngineLog, Event, FlashAttn, Settings, SplitMode, bounded};
use fleetune_core::{FailKind, Workload};
use tokio::io::BufReader;
use tokio::process::{ChildStderr, Command};
use tokio_util::sync::CancellationToken;

use super::arguments::{Arguments, arguments, tests};
use super::capabilities::Capabilities;
use super::{emit, output, rows};
use crate::executor::{Failure, next_line, says_out_of_memory};

/// Most of its output that is read, bytes; rows have a few hundred.
const MOST_OUTPUT: u64 = 4 << 20;
/// More of a line of its log says nothing, bytes.
const MAX_LINE: usize = 16 << 10;
/// Last words that may explain a failure.
const LAST_WORDS: usize = 24;
/// Words of lines that people should see; everything else `-v` prints is for its authors.
const WORTH_SEEING: [&str; 13] = [
    "error",
    "warn",
    "fail",
    "unable",
    "cannot",
    "not supported",
    "requires",
    "assert",
    "aborted",
    "invalid",
    "out of memory",
    "unrecognized",
    "bad_alloc",
];

/// Runs it, and sends events up to [`Event::Done`].
pub(super) async fn bench(
    program: &Path,
    known: &Capabilities,
    model: &str,
    settings: &Settings,
    workload: &Workload,
) -> Result<(), Failure> {
    let layers = super::describe(model)?.n_layer + 1;
    let mut listener = Listener::new(known, settings, workload, layers);
    let mut measured = Vec::new();
    for test in tests(known, workload) {
        let arguments = arguments(known, model, settings, workload, test)?;
        measured.extend(rows::rows(&run(program, &arguments, &mut listener).await?));
    }
    let repetitions = rows::repetitions(&measured, workload)?;
    listener.loaded()?;
    for repetition in repetitions {
        emit(&Event::Repetition(repetition))?;
    }
    emit(&Event::Done { ram_peak_mib: ram_peak_mib(), vram_peak_mib: listener.vram_peak_mib })
}

/// Runs the program once; what it printed.
async fn run(program: &Path, arguments: &Arguments, listener: &mut Listener<'_>) -> Result<String, Failure> {
    let error = |message: String| Failure::new(FailKind::Error, message);
    if let Some(cpus) = &arguments.cpus {
        bind(cpus)?;
    }
    listener.begin();
    let mut command = Command::new(program);
    command.args(&arguments.flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|problem| error(format!("`{}` cannot be started: {problem}", program.display())))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(error("the program has no pipes".to_owned()));
    };
    let exited = CancellationToken::new();
    let end = async {
        let status = child.wait().await;
        exited.cancel();
        status
    };
    let (output, heard, status) =
        tokio::join!(output::read(stdout, MOST_OUTPUT), listener.listen(stderr, &exited), end);
    heard?;
    let status = status.map_err(|problem| error(format!("its end could not be observed: {problem}")))?;
    if status.success() { Ok(output) } else { Err(listener.failed(status)?) }
}

/// Listens to the log.
struct Listener<'a> {
    known: &'a Capabilities,
    settings: &'a Settings,
    workload: &'a Workload,
    /// Of the model, the output layer counted.
    layers: u32,
    start: Instant,
    log: EngineLog,
    /// The highest of all contexts.
    vram_peak_mib: Option<f64>,
    told: bool,
    last_words: VecDeque<String>,
}

impl<'a> Listener<'a> {
    fn new(known: &'a Capabilities, settings: &'a Settings, workload: &'a Workload, layers: u32) -> Self {
        Self {
            known,
            settings,
            workload,
            layers,
            start: Instant::now(),
            log: EngineLog::default(),
            vram_peak_mib: None,
            told: false,
            last_words: VecDeque::new(),
        }
    }

    /// Another process: nothing of the last one is left.
    fn begin(&mut self) {
        self.log = EngineLog::default();
        self.last_words.clear();
    }

    /// Reads to the end, whatever comes: a program whose log nobody reads would stop.
    async fn listen(&mut self, stderr: ChildStderr, exited: &CancellationToken) -> Result<(), Failure> {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while let Some(read) = next_line(&mut reader, &mut line, exited).await {
            if read.is_ok() {
                line.truncate(MAX_LINE);
                self.line(String::from_utf8_lossy(&line).trim_end())?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        if let Some(progress) = line.strip_prefix("llama-bench: benchmark ") {
            if progress.ends_with(": starting") {
                // A build that runs both tests in one process makes a context for each.
                self.log.new_context();
            } else {
                self.measure_memory();
                self.loaded()?;
            }
            pass_on(line);
            return Ok(());
        }
        let is_fact = self.log.line(line);
        let low = line.to_lowercase();
        let is_grave = WORTH_SEEING.iter().any(|word| low.contains(word));
        if is_grave {
            if self.last_words.len() == LAST_WORDS {
                self.last_words.pop_front();
            }
            self.last_words.push_back(line.to_owned());
        }
        if is_fact || is_grave {
            pass_on(line);
        }
        Ok(())
    }

    /// Whatever is not the host's. Builds without a GPU say nothing of layers.
    fn measure_memory(&mut self) {
        const HOST: [&str; 3] = ["CPU", "Host", "AMX"];
        if self.log.offloaded.is_none() {
            return;
        }
        let on_gpu = |buffer: &&Buffer| !HOST.iter().any(|name| buffer.device.contains(name));
        let now = self.log.buffers.iter().filter(on_gpu).map(|buffer| buffer.mib).sum::<f64>();
        self.vram_peak_mib = Some(self.vram_peak_mib.map_or(now, |peak| peak.max(now)));
    }

    /// Says once that model and context exist.
    fn loaded(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.told, true) {
            return Ok(());
        }
        let effective = Box::new(self.effective());
        emit(&Event::Loaded { load_s: self.start.elapsed().as_secs_f64(), effective })
    }

    /// What was asked for, or is the program's default, with what the log says became of it.
    fn effective(&self) -> EffectiveSettings {
        let asked = self.settings;
        let number = |asked: Option<u32>, flag: &str| asked.or_else(|| self.known.default(flag)).unwrap_or(0);
        let threads = i32::try_from(number(asked.n_threads, "-t")).unwrap_or(i32::MAX);
        let n_batch = number(asked.n_batch, "-b");
        // Builds without a GPU say nothing of layers.
        let has_gpu = self.log.offloaded.is_some();
        let (layers_on_gpu, layers_total) = self.log.offloaded.unwrap_or((0, self.layers));
        let flash_attn = asked.flash_attn.unwrap_or_default();
        EffectiveSettings {
            n_ctx: self.workload.prompt.max(self.workload.gen_tokens),
            n_batch,
            n_ubatch: number(asked.n_ubatch, "-ub").min(n_batch),
            n_threads: threads,
            n_threads_batch: threads,
            flash_attn,
            flash_attn_resolved: match flash_attn {
                FlashAttn::On => Some(true),
                FlashAttn::Off => Some(false),
                FlashAttn::Auto => self.log.flash_attn,
            },
            type_k: asked.type_k.unwrap_or_default(),
            type_v: asked.type_v.unwrap_or_default(),
            n_gpu_layers: if has_gpu { asked.n_gpu_layers.unwrap_or(-1) } else { 0 },
            layers_on_gpu,
            layers_total,
            offload_kqv: has_gpu && asked.offload_kqv.unwrap_or(true),
            op_offload: has_gpu && asked.op_offload.unwrap_or(true),
            split_mode: if has_gpu { asked.split_mode.unwrap_or_default() } else { SplitMode::None },
            main_gpu: asked.main_gpu.filter(|_| has_gpu).and_then(|gpu| i32::try_from(gpu).ok()).unwrap_or(0),
            load_mode: self.log.load_mode.or(asked.load_mode).unwrap_or_default(),
            repack: self.log.is_rearranged(),
            cpu_affinity: asked.cpu_affinity.clone(),
            buffers: self.log.buffers.clone(),
        }
    }

    /// Says why there is no result. Who died by a signal is followed: what that means the worker knows.
    fn failed(&self, status: ExitStatus) -> Result<Failure, Failure> {
        let words = self.last_words.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        if let Some(signal) = signal_of(status) {
            if signal == SIGABRT && !words.is_empty() {
                emit(&Event::Abort { message: bounded(&words) })?;
            }
            die_by(signal);
            return Ok(Failure::new(FailKind::Crash, format!("`llama-bench` died by signal {signal}: {words}")));
        }
        let code = status.code().map_or_else(|| "unknown".to_owned(), |code| code.to_string());
        let message = if words.is_empty() { "it gives no reason".to_owned() } else { words };
        Ok(Failure::new(kind_of(&message), format!("`llama-bench` ended with exit code {code}: {message}")))
    }
}

/// To the worker's log. Without a reader the benchmark goes on.
fn pass_on(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What its last words say of the cause.
fn kind_of(words: &str) -> FailKind {
    const REFUSED: [&str; 6] = [
        "invalid parameter",
        "invalid device",
        "unrecognized buffer type",
        "failed to parse",
        "failed to create context",
        "requires flash",
    ];
    if says_out_of_memory(words) {
        FailKind::Oom
    } else if REFUSED.iter().any(|refusal| words.contains(refusal)) {
        FailKind::InvalidConfig
    } else {
        FailKind::Error
    }
}

/// POSIX fixes this number.
const SIGABRT: i32 = 6;

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_: ExitStatus) -> Option<i32> {
    None
}

#[cfg(unix)]
fn die_by(signal: i32) {
    use nix::sys::resource::{Resource, setrlimit};
    // The program's core would be of use, this one not.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if let Ok(signal) = nix::sys::signal::Signal::try_from(signal) {
        // Rust's own handler of a fault only takes itself away the first time.
        for _ in 0..2 {
            let _ = nix::sys::signal::raise(signal);
        }
    }
}

#[cfg(not(unix))]
fn die_by(_: i32) {}

/// Highest resident memory of the programs that this process started and that have ended, MiB.
#[cfg(unix)]
fn ram_peak_mib() -> f64 {
    // Kilobytes everywhere but on macOS, where it is bytes.
    let unit = if cfg!(target_os = "macos") { 1.0 } else { 1024.0 };
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)
        .map_or(0.0, |usage| usage.max_rss() as f64 * unit / f64::from(1 << 20))
}

#[cfg(not(unix))]
fn ram_peak_mib() -> f64 {
    0.0
}

/// Binds this process, and with it the program, to `cpus`.
#[cfg(target_os = "linux")]
fn bind(cpus: &fleetune_core::runner::CpuList) -> Result<(), Failure> {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;

    let mut set = CpuSet::new();
    cpus.cpus()
        .try_for_each(|cpu| set.set(cpu as usize))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| {
            Failure::new(FailKind::InvalidConfig, format!("cannot run on the CPUs {cpus}: {}", errno.desc()))
        })
}

#[cfg(not(target_os = "linux"))]
fn bind(cpus: &fleetune_core::runner::CpuList) -> Result<(), Failure> {
    let message = format!("cannot run on the CPUs {cpus}: only Linux binds a process to CPUs");
    Err(Failure::new(FailKind::InvalidConfig, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_the_highest_of_all_contexts() {
        let known = Capabilities::parse(include_str!("../../tests/fixtures/llama-bench/help-0.6.0.txt")).unwrap();
        let (settings, workload) = (Settings::default(), Workload::default());
        let mut listener = Listener::new(&known, &settings, &workload, 7);
        listener.told = true;
        for line in [
            "llama-bench: benchmark 1/2: starting",
            "load_tensors:        CUDA0 model buffer size =   100.00 MiB",
            "load_tensors: offloaded 7/7 layers to GPU",
            "load_tensors:   CPU_Mapped model buffer size =    10.00 MiB",
            "load_tensors:          AMX model buffer size =    10.00 MiB",
            "llama_kv_cache:      CUDA0 KV buffer size =    20.00 MiB",
            "sched_reserve:      CUDA0 compute buffer size =    30.00 MiB",
            "sched_reserve:  CUDA_Host compute buffer size =     5.00 MiB",
            "llama-bench: benchmark 1/2: warmup prompt run",
            "llama-bench: benchmark 2/2: starting",
            "llama_kv_cache:      CUDA0 KV buffer size =    10.00 MiB",
            "llama-bench: benchmark 2/2: warmup generation run",
        ] {
            listener.line(line).unwrap();
        }
        assert_eq!(listener.vram_peak_mib, Some(150.0));
        let effective = listener.effective();
        assert_eq!((effective.n_batch, effective.n_ubatch, effective.layers_total), (2048, 512, 7));
        assert!(listener.last_words.is_empty());
    }

    #[test]
    fn what_it_says_tells_the_kind_of_failure() {
        for (words, kind) in [
            ("error: invalid parameter for argument: -fa", FailKind::InvalidConfig),
            ("quantized V cache requires flash_attn to be enabled; failed to create context", FailKind::InvalidConfig),
            ("ggml_backend_cpu: failed to allocate buffer of size 9; failed to create context", FailKind::Oom),
            ("llama_bench: error: failed to load model 'm.gguf'", FailKind::Error),
        ] {
            assert_eq!(kind_of(words), kind, "{words}");
        }
    }
}
