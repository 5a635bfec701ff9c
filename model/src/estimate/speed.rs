//! A roofline: each part of a token's way takes the longer of moving its bytes and doing its arithmetic.
//!
//! Devices work one after another, as the engine's graph makes them, except that rows are shared and that pieces of a
//! prompt overlap where the engine overlaps them. Constants are round: only ratios between configurations are meant.

use fleetune_core::runner::{FlashAttn, Settings};
use fleetune_core::workload::Workload;

use super::effective::{OFFLOAD_MIN_BATCH, is_quantized};
use super::facts::{Facts, Sums};
use super::hardware::{GpuFacts, Machine};
use super::memory::bytes_per_element;
use super::placement::Placement;

/// The part of a GPU's peak bandwidth that decode reaches.
const GPU_BYTES_SHARE: f64 = 0.7;
/// The part of a GPU's 16-bit peak that prefill reaches with large batches; kernels for quantised weights compute in 8
/// bits, which is why it is so much.
const GPU_FLOP_SHARE: f64 = 0.7;
/// Tokens at which a GPU's prefill reaches half of that.
const GPU_HALF_BATCH: f64 = 64.0;
/// Up to so many tokens matrices meet them one by one and only memory counts: `MMVQ_MAX_BATCH_SIZE` of `mmvq.cuh`.
const GPU_VECTORS: f64 = 8.0;
/// A GPU's time between two layers, seconds: some launches within a graph.
const GPU_LAYER_S: f64 = 8.0e-6;
/// Handing over between devices and waiting for it, seconds.
const HAND_OVER_S: f64 = 25.0e-6;
/// Bandwidth of one core, bytes a second: 18e9 measured on a Zen 4 server core.
const CORE_BYTES_S: f64 = 15.0e9;
/// Arithmetic of one core in prefill: 50 to 120e9 measured on that core, by type of weights.
const CORE_FLOP_S: f64 = 80.0e9;
/// What remains of it without rearranged weights, where they could be: 0.74 measured with `Q4_0`.
const PLAIN_SHARE: f64 = 0.75;
/// What the second hardware thread of a core adds to arithmetic.
const SECOND_THREAD: f64 = 0.1;
/// What remains when threads wait for each other's turn on a CPU.
const OVERSUBSCRIBED: f64 = 0.5;
/// Meetings of all threads in one layer, and their cost for each thread beyond the first, seconds.
const MEETING: (f64, f64) = (12.0, 0.15e-6);
/// Unfused attention writes and reads its scores this often.
const SCORE_PASSES: f64 = 4.0;
/// Arithmetic of the attention on quantised caches against 16-bit ones.
const QUANTIZED_KV_COST: f64 = 1.15;

/// Speeds of one configuration.
pub(super) struct Speeds<'a> {
    settings: &'a Settings,
    placement: &'a Placement,
    facts: &'a Facts,
    machine: &'a Machine,
    workload: &'a Workload,
}

/// Work for some tokens at once.
#[derive(Clone, Copy)]
struct Work {
    tokens: f64,
    /// Tokens of context they attend to.
    context: f64,
    threads: f64,
}

impl<'a> Speeds<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        placement: &'a Placement,
        facts: &'a Facts,
        machine: &'a Machine,
        workload: &'a Workload,
    ) -> Self {
        Self { settings, placement, facts, machine, workload }
    }

    pub(super) fn decode_tok_s(&self) -> Option<f64> {
        let context = f64::from(self.workload.prompt) + f64::from(self.workload.gen_tokens) / 2.0;
        let threads = f64::from(self.settings.n_threads.unwrap_or(1).max(1));
        rate(1.0, self.seconds(Work { tokens: 1.0, context, threads }))
    }

    pub(super) fn prefill_tok_s(&self) -> Option<f64> {
        let prompt = self.workload.prompt.max(1);
        let (n_batch, n_ubatch) = (self.settings.n_batch?.max(1), self.settings.n_ubatch?.max(1));
        let threads = self.settings.n_threads_batch.or(self.settings.n_threads).unwrap_or(1).max(1);
        // On average a token of the prompt attends to half of it.
        let work = |tokens: u32| Work {
            tokens: f64::from(tokens),
            context: f64::from(prompt) / 2.0,
            threads: f64::from(threads),
        };
        let chunk = |tokens: u32| {
            if tokens == 0 {
                return 0.0;
            }
            let (whole, rest) = (tokens / n_ubatch, tokens % n_ubatch);
            let last = if rest > 0 { self.seconds(work(rest)) } else { 0.0 };
            let pieces = f64::from(whole) + if rest > 0 { 1.0 } else { 0.0 };
            (f64::from(whole) * self.seconds(work(n_ubatch)) + last) * self.overlap(pieces)
        };
        rate(f64::from(prompt), f64::from(prompt / n_batch) * chunk(n_batch) + chunk(prompt % n_batch))
    }

    /// Part of the time that is left when `pieces` pass several GPUs one behind the other.
    fn overlap(&self, pieces: f64) -> f64 {
        if !self.placement.is_pipelined(self.settings) {
            return 1.0;
        }
        let gpus = self.placement.spans.len() as f64;
        (pieces + gpus - 1.0) / (pieces * gpus)
    }

    fn seconds(&self, work: Work) -> f64 {
        self.gpus(work) + self.host(work)
    }

    fn gpus(&self, work: Work) -> f64 {
        let facts = self.facts;
        let on_gpu = self.settings.offload_kqv == Some(true);
        let mut seconds = 0.0;
        let mut by_rows = 0.0_f64;
        for span in &self.placement.spans {
            let gpu = &self.machine.gpus[span.gpu];
            let flop_s = gpu_flop_s(gpu, work.tokens);
            let bytes_s = gpu.bytes_s * GPU_BYTES_SHARE;
            let sums = facts.sums(&span.layers);
            let mut matrices = self.matrices(&sums, work, bytes_s, flop_s);
            if span.output {
                matrices += (facts.output_bytes / bytes_s).max(2.0 * facts.output_elements / flop_s);
            }
            if self.placement.by_rows {
                let all = facts.sums(&(self.placement.host_layers..facts.layers()));
                by_rows = by_rows.max(span.share * self.matrices(&all, work, bytes_s, flop_s));
                let exchanges = if self.placement.spans.len() > 1 { 2.0 } else { 0.0 };
                matrices = sums.layers * exchanges * HAND_OVER_S;
            }
            seconds += matrices + sums.layers * GPU_LAYER_S;
            if on_gpu {
                seconds += self.attention(&sums, work, bytes_s, flop_s);
            }
            if sums.layers > 0.0 || span.output {
                seconds += HAND_OVER_S + 4.0 * work.tokens * facts.embedding / self.machine.link_bytes_s;
            }
        }
        seconds + by_rows
    }

    fn host(&self, work: Work) -> f64 {
        let facts = self.facts;
        let (bytes_s, flop_s) = (self.host_bytes_s(work.threads), self.host_flop_s(work.threads));
        let layers = 0..self.placement.host_layers;
        let sums = facts.sums(&layers);
        let mut seconds = 0.0;
        let offloads = self.settings.op_offload == Some(true) && work.tokens >= f64::from(OFFLOAD_MIN_BATCH);
        let gpu = self.placement.spans.first().filter(|_| offloads).map(|span| &self.machine.gpus[span.gpu]);
        if let Some(gpu) = gpu {
            let flop_s = gpu_flop_s(gpu, work.tokens);
            let bytes = self.touched(&sums, work.tokens);
            seconds += bytes / self.machine.link_bytes_s + 2.0 * sums.active_elements * work.tokens / flop_s;
        } else {
            seconds += self.matrices(&sums, work, bytes_s, flop_s);
        }
        if self.placement.host_output {
            seconds += (facts.output_bytes / bytes_s).max(2.0 * facts.output_elements / flop_s);
        }
        seconds += sums.layers * MEETING.0 * MEETING.1 * (work.threads - 1.0);
        seconds += self.attention(&sums, work, bytes_s, flop_s);
        if self.settings.offload_kqv != Some(true) && !self.placement.spans.is_empty() {
            let theirs = facts.sums(&(self.placement.host_layers..facts.layers()));
            seconds += self.attention(&theirs, work, bytes_s, flop_s) + theirs.attending * 2.0 * HAND_OVER_S;
        }
        seconds
    }

    /// Weights that `tokens` pass together: with experts, more tokens choose more of them.
    fn touched(&self, sums: &Sums, tokens: f64) -> f64 {
        let spread = tokens.min(self.facts.expert_share);
        (sums.active_bytes * spread).min(sums.bytes)
    }

    fn matrices(&self, sums: &Sums, work: Work, bytes_s: f64, flop_s: f64) -> f64 {
        (self.touched(sums, work.tokens) / bytes_s).max(2.0 * sums.active_elements * work.tokens / flop_s)
    }

    fn attention(&self, sums: &Sums, work: Work, bytes_s: f64, flop_s: f64) -> f64 {
        let facts = self.facts;
        let (type_k, type_v) = (self.settings.type_k.unwrap_or_default(), self.settings.type_v.unwrap_or_default());
        let seen = if facts.window > 0.0 { work.context.min(facts.window) } else { work.context };
        let read = |whole: f64, windowed: f64| (whole - windowed) * work.context + windowed * seen;
        let cache = read(sums.k, sums.windowed_k) * bytes_per_element(type_k)
            + read(sums.v, sums.windowed_v) * bytes_per_element(type_v);
        let cost = if is_quantized(type_k) || is_quantized(type_v) { QUANTIZED_KV_COST } else { 1.0 };
        let flop = 4.0 * sums.attending * work.tokens * work.context * facts.query * cost;
        let scores = if self.settings.flash_attn == Some(FlashAttn::Off) {
            SCORE_PASSES * 4.0 * sums.attending * work.tokens * work.context * facts.heads
        } else {
            0.0
        };
        ((cache + scores) / bytes_s).max(flop / flop_s)
    }

    /// Bandwidth saturates with few cores; more threads than CPUs stand in each other's way.
    fn host_bytes_s(&self, threads: f64) -> f64 {
        let cores = threads.min(self.machine.cores);
        (cores * CORE_BYTES_S).min(self.machine.host_bytes_s) * self.crowding(threads)
    }

    fn host_flop_s(&self, threads: f64) -> f64 {
        let cores = threads.min(self.machine.cores);
        let second = (threads.min(self.machine.logical) - cores).max(0.0) * SECOND_THREAD;
        let plain = if self.settings.repack == Some(true) { 1.0 } else { PLAIN_SHARE };
        (cores + second) * CORE_FLOP_S * plain * self.crowding(threads)
    }

    fn crowding(&self, threads: f64) -> f64 {
        if threads > self.machine.logical { OVERSUBSCRIBED * self.machine.logical / threads } else { 1.0 }
    }
}

fn gpu_flop_s(gpu: &GpuFacts, tokens: f64) -> f64 {
    let share = if tokens > GPU_VECTORS { tokens / (tokens + GPU_HALF_BATCH) } else { 1.0 };
    gpu.flop_s * GPU_FLOP_SHARE * share
}

/// Tokens a second; `None` where the model tells too little to say.
fn rate(tokens: f64, seconds: f64) -> Option<f64> {
    Some(tokens / seconds).filter(|rate| rate.is_finite() && *rate > 0.0)
}
