use fleetune_core::runner::Settings;
use proptest::prelude::*;

use super::*;

/// Numbers as headers have them, and as nobody means them.
fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 1..1_u64 << 40, any::<u64>()]
}

fn wild_width() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), 1..16_384_u32]
}

prop_compose! {
    fn layers()(bytes in wild(), active in wild(), largest in wild(), k in wild_width(), v in wild_width(),
        state in wild(), windowed: bool, count in prop_oneof![0..100_u32, Just(u32::MAX)]) -> LayerRun {
        let layer = Layer { bytes, active_bytes: active, active_elements: active, largest_bytes: largest, k_width: k,
            v_width: v, state_bytes: state, windowed };
        LayerRun { count, layer }
    }
}

prop_compose! {
    fn wild_models()(runs in prop::collection::vec(layers(), 0..6), input in wild(), output in wild(), tied in wild(),
        widths in prop::array::uniform8(wild_width())) -> ModelMetadata {
        let [feed_forward_width, window, embedding_length, head_count, key_length, vocab_size, expert_count,
            block_count] = widths;
        ModelMetadata {
            embedding_length, head_count, key_length, vocab_size, expert_count, expert_used_count: window, block_count,
            layout: Some(Layout { runs, input_bytes: input, output_bytes: output, output_elements: output,
                tied_bytes: tied, feed_forward_width, window, ..Layout::default() }),
            ..ModelMetadata::default()
        }
    }
}

prop_compose! {
    fn settings()(n_gpu_layers in -1..40_i32, n_ctx in 1..20_000_u32, n_batch in 1..5_000_u32, n_ubatch in 1..5_000_u32,
        threads in 1..64_u32, fused: bool, kv in 0..9_usize, offload_kqv: bool, op_offload: bool, mode in 0..3_usize,
        main_gpu in 0..2_u32) -> Settings {
        Settings {
            n_gpu_layers: Some(n_gpu_layers), n_ctx: Some(n_ctx), n_batch: Some(n_batch), n_ubatch: Some(n_ubatch),
            n_threads: Some(threads), flash_attn: Some(if fused { FlashAttn::On } else { FlashAttn::Off }),
            type_k: Some(KvType::ALL[kv]), type_v: Some(KvType::ALL[kv]), offload_kqv: Some(offload_kqv),
            op_offload: Some(op_offload), split_mode: Some(SplitMode::ALL[mode]), main_gpu: Some(main_gpu),
            ..Settings::default()
        }
    }
}

fn gpus(count: usize) -> Vec<Gpu> {
    [gpu("RTX 3090", 24_576), gpu("unheard of", 8_192), gpu("no memory told", 0)].into_iter().take(count).collect()
}

fn needs(settings: &Settings, count: usize) -> Vec<f64> {
    let estimator = Estimator::new(&llama_8b(), &machine(gpus(count)), &workload(512, 128));
    estimator.estimate_settings(settings).memory.iter().map(|memory| memory.need_mib).collect()
}

fn no_less(more: &[f64], less: &[f64]) -> bool {
    more.len() == less.len() && more.iter().zip(less).all(|(more, less)| *more >= less - 1e-6)
}

proptest! {
    #[test]
    fn whatever_a_header_says_numbers_stay_numbers(model in wild_models(), settings in settings(), count in 0..4_usize,
        prompt in wild_width(), generated in wild_width()) {
        let estimator = Estimator::new(&model, &machine(gpus(count)), &workload(prompt, generated));
        let estimation = estimator.estimate_settings(&settings);
        for memory in &estimation.memory {
            prop_assert!(memory.need_mib.is_finite() && memory.need_mib >= 0.0, "{:?}", estimation);
        }
        let numbers = [estimation.memory_ratio, estimation.decode_tok_s, estimation.prefill_tok_s];
        for number in numbers.into_iter().flatten() {
            prop_assert!(number.is_finite() && number >= 0.0, "{:?}", estimation);
        }
    }

    #[test]
    fn effective_parameters_are_read_back_and_stay(settings in settings(), count in 0..3_usize) {
        let estimator = Estimator::new(&llama_8b(), &machine(gpus(count)), &workload(512, 128));
        let once = estimator.estimate_settings(&settings);
        prop_assert_eq!(&estimator.estimate(&once.effective), &once);
    }

    #[test]
    fn more_layers_on_a_gpu_never_need_less_of_it(settings in settings(), layers in 0..33_i32) {
        let at = |layers| needs(&Settings { n_gpu_layers: Some(layers), main_gpu: Some(0), ..settings.clone() }, 1);
        let (less, more) = (at(layers), at(layers + 1));
        prop_assert!(more[1] >= less[1] - 1e-6, "{less:?} {more:?}");
    }

    #[test]
    fn longer_contexts_never_need_less(settings in settings(), longer in 1..20_000_u32, count in 0..3_usize) {
        let more = Settings { n_ctx: settings.n_ctx.map(|n_ctx| n_ctx + longer), ..settings.clone() };
        prop_assert!(no_less(&needs(&more, count), &needs(&settings, count)));
    }

    #[test]
    fn larger_batches_never_need_less(settings in settings(), larger in 1..5_000_u32, count in 0..3_usize) {
        let wider = |more: u32| Settings { n_ubatch: settings.n_ubatch.map(|n| n + more), ..settings.clone() };
        prop_assert!(no_less(&needs(&wider(larger), count), &needs(&wider(0), count)));
        let batch = Settings { n_batch: settings.n_batch.map(|n| n + larger), ..settings.clone() };
        prop_assert!(no_less(&needs(&batch, count), &needs(&settings, count)));
    }

    #[test]
    fn smaller_cache_types_never_need_more(settings in settings(), count in 0..3_usize) {
        // From 16 bits on: caches of 32 bits are cast beforehand.
        let of = |kv| needs(&Settings { type_k: Some(kv), type_v: Some(kv), ..settings.clone() }, count);
        let order = [KvType::Q4_0, KvType::Q5_0, KvType::Q8_0, KvType::F16, KvType::F32];
        for pair in order.windows(2) {
            prop_assert!(no_less(&of(pair[1]), &of(pair[0])));
        }
    }
}
