//! Unsafe regions.

use fleetune_core::region::ORDERED;
use fleetune_core::{Params, Timestamp};

use super::table::{pairs, table};
use crate::view::RegionView;

/// Digits of a model's hash that tell it apart.
const HASH_DIGITS: usize = 12;

/// A line per region.
pub fn regions(regions: &[RegionView]) -> String {
    if regions.is_empty() {
        return "no unsafe regions: nothing was seen to take a machine down".to_owned();
    }
    let rows = regions
        .iter()
        .map(|region| {
            let kinds: Vec<_> = region.evidence.iter().map(|incident| incident.kind.as_str()).collect();
            vec![
                region.id.to_string(),
                region.device_class.clone(),
                short(&region.model_hash),
                kinds.join(", "),
                corner(&region.settings),
            ]
        })
        .collect();
    table(&["REGION", "DEVICE CLASS", "MODEL", "EVIDENCE", "AT OR BEYOND"], &["REGION"], rows)
}

/// Everything about one region.
pub fn region(region: &RegionView) -> String {
    let mut text = pairs(&[
        ("region", region.id.to_string()),
        ("class", region.device_class.clone()),
        ("model", region.model_hash.clone()),
        ("at or beyond", corner(&region.settings)),
    ]);
    let rows = region
        .evidence
        .iter()
        .map(|incident| {
            vec![
                incident.at_us.map(|at| Timestamp(at).to_string()).unwrap_or_default(),
                incident.kind.clone(),
                incident.worker.get(..8).unwrap_or(&incident.worker).to_owned(),
                incident.study.clone(),
                incident.trial.to_string(),
                incident.attempt.to_string(),
                incident.message.lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    text.push_str("\n\n");
    text.push_str(&table(
        &["WHEN", "KIND", "WORKER", "STUDY", "TRIAL", "ATTEMPT", "MESSAGE"],
        &["TRIAL", "ATTEMPT"],
        rows,
    ));
    text.push_str(&format!("\n\n`fleetune region delete {}` forgets it", region.id));
    text
}

/// `n_gpu_layers >= 33, n_batch >= 512, flash_attn = on`: what more of is worse first.
fn corner(settings: &Params) -> String {
    let ordered = ORDERED.into_iter().filter_map(|name| Some(format!("{name} >= {}", settings.get(name)?)));
    let others = settings.iter().filter(|(name, _)| !ORDERED.contains(&name.as_str()));
    ordered.chain(others.map(|(name, value)| format!("{name} = {value}"))).collect::<Vec<_>>().join(", ")
}

fn short(hash: &str) -> String {
    hash.get(..HASH_DIGITS).unwrap_or(hash).to_owned()
}
