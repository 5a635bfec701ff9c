use fleetune_core::runner::Settings;

use super::*;

fn made(settings: &Settings, gpus: Vec<Gpu>) -> Settings {
    super::super::effective(settings, &llama_8b(), &machine(gpus), &workload(512, 128))
}

fn one() -> Vec<Gpu> {
    vec![gpu("RTX 3090", 24_576)]
}

#[test]
fn gaps_are_filled_as_the_runner_and_the_engine_fill_them() {
    let made = made(&Settings::default(), Vec::new());
    assert_eq!((made.n_ctx, made.n_batch, made.n_ubatch), (Some(768), Some(512), Some(512)));
    assert_eq!((made.n_threads, made.n_threads_batch), (Some(16), Some(16)));
    assert_eq!((made.flash_attn, made.load_mode), (Some(FlashAttn::On), Some(LoadMode::Mmap)));
    assert_eq!((made.type_k, made.type_v), (Some(KvType::F16), Some(KvType::F16)));
    assert_eq!(made.to_params().len(), 15, "everything but the affinity");
}

#[test]
fn effective_settings_are_their_own_effective_form() {
    for gpus in [Vec::new(), one(), vec![gpu("a", 8_192), gpu("b", 24_576)]] {
        for layers in [-1, 0, 1, 2, 33, 99] {
            let asked = Settings {
                n_gpu_layers: Some(layers),
                n_ctx: Some(700),
                n_batch: Some(4096),
                n_ubatch: Some(1024),
                split_mode: Some(SplitMode::Row),
                main_gpu: Some(1),
                offload_kqv: Some(false),
                op_offload: Some(false),
                ..Settings::default()
            };
            let once = made(&asked, gpus.clone());
            assert_eq!(made(&once, gpus.clone()), once);
        }
    }
}

#[test]
fn batches_end_at_the_context_as_asked_and_the_context_is_padded() {
    let asked = Settings { n_ctx: Some(700), n_batch: Some(4096), n_ubatch: Some(4096), ..Settings::default() };
    let made = made(&asked, Vec::new());
    assert_eq!((made.n_ctx, made.n_batch, made.n_ubatch), (Some(768), Some(700), Some(700)));
}

#[test]
fn batches_beyond_the_prompt_are_one_and_the_same() {
    let batch = |n_batch| made(&Settings { n_batch: Some(n_batch), n_ctx: Some(4096), ..Settings::default() }, one());
    assert_eq!(batch(512), batch(2048));
    assert_ne!(batch(256), batch(512));
    // The physical batch decides what is reserved, whatever the prompt.
    let wide = Settings { n_ubatch: Some(2048), n_ctx: Some(4096), ..Settings::default() };
    assert_eq!((made(&wide, one()).n_batch, made(&wide, one()).n_ubatch), (Some(2048), Some(2048)));
}

#[test]
fn without_a_gpu_its_settings_make_no_difference() {
    let asked = Settings {
        n_gpu_layers: Some(3),
        offload_kqv: Some(false),
        op_offload: Some(false),
        split_mode: Some(SplitMode::Row),
        main_gpu: Some(2),
        ..Settings::default()
    };
    assert_eq!(made(&asked, Vec::new()), made(&Settings::default(), Vec::new()));
}

#[test]
fn layers_beyond_the_last_are_all_layers() {
    let layers = |count| made(&Settings { n_gpu_layers: Some(count), ..Settings::default() }, one());
    assert_eq!(layers(-1), layers(33));
    assert_eq!(layers(33), layers(999));
    assert_ne!(layers(32), layers(33));
}

#[test]
fn one_gpu_is_not_split_and_has_no_rank() {
    let split = |mode, main| made(&Settings { split_mode: Some(mode), main_gpu: main, ..Settings::default() }, one());
    assert_eq!(split(SplitMode::Layer, Some(0)), split(SplitMode::None, None));
    assert_ne!(split(SplitMode::Row, None), split(SplitMode::None, None));
    let two = vec![gpu("a", 8_192), gpu("b", 24_576)];
    let main = |mode, main_gpu| {
        made(&Settings { split_mode: Some(mode), main_gpu: Some(main_gpu), ..Settings::default() }, two.clone())
    };
    assert_ne!(main(SplitMode::None, 0), main(SplitMode::None, 1));
    assert_eq!(main(SplitMode::Row, 0), main(SplitMode::Row, 1));
    assert_eq!(main(SplitMode::Layer, 0), main(SplitMode::Layer, 1));
}

#[test]
fn host_settings_matter_only_where_the_host_computes() {
    let of = |layers, repack| {
        let asked = Settings {
            n_gpu_layers: Some(layers),
            repack: Some(repack),
            op_offload: Some(repack),
            ..Settings::default()
        };
        made(&asked, one())
    };
    assert_eq!(of(33, true), of(33, false));
    assert_ne!(of(20, true).op_offload, of(20, false).op_offload);
    // Beside a GPU with pinned memory nothing is rearranged.
    assert_eq!(of(20, true).repack, of(20, false).repack);
    let alone = |repack| made(&Settings { repack: Some(repack), ..Settings::default() }, Vec::new()).repack;
    assert_eq!((alone(true), alone(false)), (Some(true), Some(false)));
}

#[test]
fn cache_stays_where_its_layers_are() {
    let of = |layers, offload_kqv| {
        made(&Settings { n_gpu_layers: Some(layers), offload_kqv: Some(offload_kqv), ..Settings::default() }, one())
    };
    assert_eq!(of(1, true), of(1, false), "the first layer to go is the output");
    assert_ne!(of(2, true), of(2, false));
}

#[test]
fn fused_attention_is_resolved_where_it_is_known() {
    let of = |settings: Settings, gpus| made(&settings, gpus).flash_attn.unwrap();
    assert_eq!(of(Settings::default(), Vec::new()), FlashAttn::On);
    assert_eq!(of(Settings::default(), one()), FlashAttn::On);
    let radeon = Gpu { vendor: "amd".into(), ..gpu("RX 7900 XTX", 24_576) };
    assert_eq!(of(Settings::default(), vec![radeon.clone()]), FlashAttn::Auto);
    let quantised = Settings { type_v: Some(KvType::Q8_0), ..Settings::default() };
    assert_eq!(of(quantised, vec![radeon.clone()]), FlashAttn::On);
    assert_eq!(of(Settings { n_gpu_layers: Some(0), ..Settings::default() }, vec![radeon]), FlashAttn::On);
    let off = Settings { flash_attn: Some(FlashAttn::Off), ..Settings::default() };
    assert_eq!(of(off, one()), FlashAttn::Off);
    let grok = ModelMetadata { architecture: "grok".into(), ..llama_8b() };
    let made = super::super::effective(&Settings::default(), &grok, &machine(Vec::new()), &workload(512, 128));
    assert_eq!(made.flash_attn, Some(FlashAttn::Off));
}
