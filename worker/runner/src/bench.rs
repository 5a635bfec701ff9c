//! One benchmark: load, warm up, repeat. Measures as `llama-bench` does, so that the two can be compared.
//!
//! A repetition is one request: the KV cache is emptied, the prompt is computed in chunks of `n_batch` random tokens,
//! then `gen_tokens` random tokens one by one behind it, waiting for the device after each.

use std::time::{Duration, Instant};

use fleetune_core::Workload;
use fleetune_core::runner::{DeviceKind, Event, Repetition, Settings};
use llama_cpp_2::llama_backend::LlamaBackend;

use crate::engine::{self, Context, Model};
use crate::events::{LoadingEvents, emit};
use crate::failure::Failure;
use crate::settings::Resolved;
use crate::{log, machine};

/// Runs one benchmark and sends its events up to [`Event::Done`].
pub(crate) fn run(
    backend: &LlamaBackend,
    path: &str,
    settings: &Settings,
    workload: &Workload,
    seed: u64,
) -> Result<(), Failure> {
    let resolved = Resolved::new(settings, workload, machine::physical_cores())?;
    if let Some(cpus) = &resolved.cpu_affinity {
        machine::bind(cpus)?;
    }
    let gpus: Vec<String> = engine::devices(backend)
        .into_iter()
        .filter(|device| matches!(device.kind, DeviceKind::Gpu | DeviceKind::Igpu))
        .map(|device| device.name)
        .collect();

    let start = Instant::now();
    let model = Model::load(backend, path, resolved.model_params(), Some(LoadingEvents::new()))?;
    if !model.is_generator() {
        return Err(Failure::Engine(
            "the model does not generate text token by token; only such models are measured".to_owned(),
        ));
    }
    let mut context = Context::new(&model, resolved.context_params())?;
    let load_s = start.elapsed().as_secs_f64();
    let facts = context.facts(!gpus.is_empty());
    emit(&Event::Loaded { load_s, effective: Box::new(resolved.effective(facts, &log::heard())) })?;

    let mut tokens = RandomTokens::new(seed, &model);
    for (warmup, count) in [(true, workload.warmup), (false, workload.repetitions)] {
        for index in 0..count {
            let phases = repetition(&mut context, &mut tokens, workload, resolved.n_batch)?;
            emit(&Event::Repetition(phases.report(index, warmup, workload)?))?;
        }
    }
    emit(&Event::Done { ram_peak_mib: machine::ram_peak_mib(), vram_peak_mib: log::heard().facts.vram_mib(&gpus) })
}

/// Times of one repetition.
struct Phases {
    prefill: Duration,
    first_token: Duration,
    decode: Duration,
}

fn repetition(
    context: &mut Context<'_>,
    tokens: &mut RandomTokens,
    workload: &Workload,
    n_batch: u32,
) -> Result<Phases, Failure> {
    // Drawn beforehand: drawing is no part of the engine's work.
    let mut prompt = tokens.prompt(workload.prompt);
    let mut generated = tokens.draw(workload.gen_tokens);
    context.clear();
    context.synchronize();

    let start = Instant::now();
    for chunk in prompt.chunks_mut(n_batch as usize) {
        context.decode(chunk, "prefill")?;
    }
    context.synchronize();
    let prefill = start.elapsed();
    context.sample("prefill")?;
    let first_token = start.elapsed();

    let start = Instant::now();
    for token in &mut generated {
        context.decode(std::slice::from_mut(token), "decode")?;
        context.synchronize();
    }
    let decode = start.elapsed();
    // Once, outside the clock: searching the logits is not the engine's work, and llama-bench does not do it.
    context.sample("decode")?;
    Ok(Phases { prefill, first_token, decode })
}

impl Phases {
    fn report(&self, index: u32, warmup: bool, workload: &Workload) -> Result<Repetition, Failure> {
        let rate = |tokens: u32, time: Duration| f64::from(tokens) / time.as_secs_f64();
        let repetition = Repetition {
            index,
            warmup,
            prefill_tok_s: rate(workload.prompt, self.prefill),
            decode_tok_s: rate(workload.gen_tokens, self.decode),
            ttft_ms: self.first_token.as_secs_f64() * 1e3,
            itl_ms: self.decode.as_secs_f64() * 1e3 / f64::from(workload.gen_tokens),
        };
        for (what, phase, value) in
            [("the speed", "prefill", repetition.prefill_tok_s), ("the speed", "decode", repetition.decode_tok_s)]
        {
            if !value.is_finite() {
                return Err(Failure::NonFinite { what, phase });
            }
        }
        Ok(repetition)
    }
}

/// Tokens from a seed, the same on every machine.
struct RandomTokens {
    state: u64,
    vocabulary: u64,
    begin: Option<i32>,
}

impl RandomTokens {
    fn new(seed: u64, model: &Model<'_>) -> Self {
        let vocabulary = u64::try_from(model.n_vocab()).unwrap_or(0).max(1);
        Self { state: seed, vocabulary, begin: model.begin_token() }
    }

    /// `count` tokens, the first being the one that begins a text if the model wants one.
    fn prompt(&mut self, count: u32) -> Vec<i32> {
        let mut tokens = self.draw(count);
        if let (Some(first), Some(begin)) = (tokens.first_mut(), self.begin) {
            *first = begin;
        }
        tokens
    }

    fn draw(&mut self, count: u32) -> Vec<i32> {
        (0..count).map(|_| (self.next() % self.vocabulary) as i32).collect()
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_depend_on_the_seed_and_stay_in_the_vocabulary() {
        let tokens = |seed| RandomTokens { state: seed, vocabulary: 300, begin: Some(1) }.prompt(1000);
        assert_eq!(tokens(1), tokens(1));
        assert_ne!(tokens(1), tokens(2));
        assert!(tokens(3).iter().all(|token| (0..300).contains(token)));
        assert_eq!(tokens(3)[0], 1);
    }

    #[test]
    fn rates_are_tokens_over_the_time_of_their_phase() {
        let phases = Phases {
            prefill: Duration::from_secs(2),
            first_token: Duration::from_millis(2001),
            decode: Duration::from_secs(4),
        };
        let workload = Workload { prompt: 100, gen_tokens: 40, repetitions: 1, warmup: 0 };
        let report = phases.report(3, false, &workload).unwrap();
        assert_eq!((report.prefill_tok_s, report.decode_tok_s), (50.0, 10.0));
        assert_eq!((report.ttft_ms, report.itl_ms, report.index), (2001.0, 100.0, 3));
        let no_time = Phases { prefill: Duration::ZERO, ..phases };
        assert!(matches!(no_time.report(0, false, &workload), Err(Failure::NonFinite { .. })));
    }
}
