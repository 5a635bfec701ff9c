//! A model of llama.cpp's settings on a machine: memory that ends, failures, noise; and what can be predicted of it.

use fleetune_core::{FailKind, Params, TrialNumber, Value};
use fleetune_sampler::{Estimate, trial_rng};

use super::{Noise, Problem, is, number, rng, unit};

/// A machine: memory of one device, and speeds.
#[derive(Clone, Copy)]
pub struct Machine {
    layers: f64,
    layer_mib: f64,
    capacity_mib: f64,
    gpu: f64,
    cpu: f64,
    best_threads: f64,
    best_batch: f64,
    kv_cost: f64,
}

impl Machine {
    pub fn new(instance: u64) -> Self {
        let mut rng = rng("llama", instance);
        let layers = 24.0 + (unit(&mut rng) * 40.0).floor();
        Self {
            layers,
            layer_mib: 80.0 + 200.0 * unit(&mut rng),
            capacity_mib: 0.0,
            gpu: 8.0 + 40.0 * unit(&mut rng),
            cpu: 1.0,
            best_threads: 4.0 + (unit(&mut rng) * 9.0).floor(),
            best_batch: 6.0 + 4.0 * unit(&mut rng),
            kv_cost: 0.02 + 0.1 * unit(&mut rng),
        }
        .with_room(0.35 + 0.7 * unit(&mut rng))
    }

    fn with_room(mut self, share: f64) -> Self {
        self.capacity_mib = share * (self.layers * self.layer_mib + 1_500.0);
        self
    }

    pub fn need_mib(&self, params: &Params) -> f64 {
        let layers = number(params, "n_gpu_layers").min(self.layers);
        let bytes = if is(params, "type_k", "f16") {
            1.0
        } else if is(params, "type_k", "q8_0") {
            0.53
        } else {
            0.28
        };
        let kv = if is(params, "no_kv_offload", "on") { 0.0 } else { 60.0 * bytes * layers };
        layers * self.layer_mib + kv + number(params, "n_ubatch").min(number(params, "n_batch")) * 0.5 + 300.0
    }

    /// Milliseconds a token.
    fn time(&self, params: &Params) -> f64 {
        let share = number(params, "n_gpu_layers").min(self.layers) / self.layers;
        let threads = number(params, "threads");
        let slow = 1.0
            + 0.15 * (threads / self.best_threads).ln().powi(2) * if threads > self.best_threads { 3.0 } else { 1.5 };
        let cpu = (1.0 - share) * 1_000.0 / self.cpu * slow / 10.0;
        let gpu = share * 1_000.0 / self.gpu;
        let fa = if is(params, "flash_attn", "on") { 0.94 } else { 1.0 };
        let kv = 1.0 + if is(params, "type_k", "f16") { 0.0 } else { self.kv_cost };
        let host = if is(params, "no_kv_offload", "on") { 1.0 + 0.4 * share } else { 1.0 };
        let batch =
            1.0 + 0.01 * (number(params, "n_ubatch").min(number(params, "n_batch")).log2() - self.best_batch).powi(2);
        let draft = if is(params, "speculative", "draft") {
            0.75 + 0.01 * (number(params, "n_draft") - 5.0).powi(2).min(90.0)
        } else {
            1.0
        };
        (cpu + gpu) * fa * kv * host * batch * draft
    }
}

pub fn llama(name: &'static str, instance: u64, noise: f64) -> Problem {
    let machine = Machine::new(instance);
    let space = format!(
        "[parameters]\nn_gpu_layers = {{ type = 'int', low = 0, high = {} }}\n\
         threads = {{ type = 'int', low = 1, high = 16 }}\nn_batch = [32, 64, 128, 256, 512, 1024, 2048]\n\
         n_ubatch = [32, 64, 128, 256, 512, 1024, 2048]\nflash_attn = ['off', 'on']\ntype_k = ['f16', 'q8_0', 'q4_0']\n\
         no_kv_offload = ['off', 'on']\nspeculative = ['none', 'draft']\n\
         n_draft = {{ type = 'int', low = 1, high = 16, when = \"speculative == 'draft'\" }}\n\
         [[forbid]]\nif = \"type_k != 'f16' && flash_attn == 'off'\"\n",
        machine.layers
    );
    let function = move |params: &Params| {
        if machine.need_mib(params) > machine.capacity_mib {
            Err(FailKind::Oom)
        } else {
            Ok((machine.time(params), None))
        }
    };
    // The best of all layers and small categories; threads, batches and drafts are separate.
    let mut optimum = f64::INFINITY;
    for layers in 0..=machine.layers as i64 {
        for (fa, kv) in [("on", "f16"), ("on", "q8_0"), ("on", "q4_0"), ("off", "f16")] {
            for host in ["off", "on"] {
                for batch in 5..=11 {
                    let texts = [("flash_attn", fa), ("type_k", kv), ("no_kv_offload", host), ("speculative", "draft")];
                    let numbers = [
                        ("n_gpu_layers", layers),
                        ("n_batch", 1 << batch),
                        ("n_ubatch", 1 << batch),
                        ("threads", machine.best_threads as i64),
                        ("n_draft", 5),
                    ];
                    let texts = texts.map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned())));
                    let numbers = numbers.map(|(name, number)| (name.to_owned(), Value::Int(number)));
                    let params = texts.into_iter().chain(numbers).collect();
                    optimum = function(&params).map_or(optimum, |(value, _)| optimum.min(value));
                }
            }
        }
    }
    Problem { name, space, log: false, noise: Noise::Relative(noise), function: Box::new(function), optimum }
}

/// What is predicted of a machine: right up to a factor, or shuffled into nonsense.
pub struct Prediction {
    pub machine: Machine,
    /// Multiplies the memory need.
    pub memory: f64,
    /// Exponent of the predicted time: 0 knows nothing, −1 is upside down.
    pub speed: f64,
    /// Whether configurations get each other's estimates.
    pub shuffled: bool,
}

impl Estimate for Prediction {
    fn memory_ratios(&self, params: &Params) -> Vec<f64> {
        let ratio = self.memory * self.machine.need_mib(params) / self.machine.capacity_mib;
        vec![if self.shuffled { 0.3 + 1.4 * hashed(params) } else { ratio }]
    }

    fn objective(&self, params: &Params) -> Option<f64> {
        // Blind for threads, drafts and batches.
        let share = number(params, "n_gpu_layers") / self.machine.layers;
        let time = (1.0 - share) * 90.0 + share * 25.0;
        Some(if self.shuffled { 20.0 + 80.0 * hashed(params) } else { time.powf(self.speed) })
    }
}

fn hashed(params: &Params) -> f64 {
    let text = fleetune_core::value::params_line(params);
    let mut rng = trial_rng(
        text.bytes().fold(7, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)),
        TrialNumber(0),
        &[],
    );
    unit(&mut rng)
}
