//! What the machine does, now and then, beside the heartbeats: a driver that hangs holds none of them up.

use std::sync::Arc;
use std::time::Duration;

use fleetune_core::gauges::Gauges;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::probe::Probe;

/// How often the machine is read at most.
const EVERY: Duration = Duration::from_secs(5);
/// How long a heartbeat waits for a reading; a later one takes it.
const PATIENCE: Duration = Duration::from_millis(500);

/// When the machine was read last, and a reading under way.
#[derive(Default)]
pub(super) struct Gauge {
    last: Option<Instant>,
    reading: Option<JoinHandle<Gauges>>,
}

impl Gauge {
    /// A fresh reading; none when the last one is new, and while the machine does not answer.
    pub(super) async fn read(&mut self, probe: &Arc<dyn Probe>) -> Option<Gauges> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None if self.last.is_some_and(|at| at.elapsed() < EVERY) => return None,
            None => {
                self.last = Some(Instant::now());
                let probe = Arc::clone(probe);
                tokio::task::spawn_blocking(move || probe.gauges())
            }
        };
        if let Ok(gauges) = tokio::time::timeout(PATIENCE, &mut reading).await {
            return gauges.ok();
        }
        self.reading = Some(reading);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Mutex, mpsc};

    use fleetune_core::Inventory;

    use super::*;
    use crate::probe::GpuReading;

    /// Answers when it is told to, and counts how often it was asked.
    struct Slow {
        told: Mutex<mpsc::Receiver<()>>,
        asked: AtomicU32,
    }

    impl Probe for Slow {
        fn inventory(&self) -> Inventory {
            Inventory::default()
        }

        fn gpu_readings(&self) -> Vec<GpuReading> {
            Vec::new()
        }

        fn gauges(&self) -> Gauges {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.told.lock().unwrap().recv().unwrap();
            Gauges { load: Some(0.5), ..Gauges::default() }
        }
    }

    #[tokio::test]
    async fn a_driver_that_hangs_is_asked_once_and_holds_nothing_up() {
        let (tell, told) = mpsc::channel();
        let slow = Arc::new(Slow { told: Mutex::new(told), asked: AtomicU32::new(0) });
        let probe: Arc<dyn Probe> = Arc::<Slow>::clone(&slow);
        let mut gauge = Gauge::default();
        for _ in 0..2 {
            assert_eq!(gauge.read(&probe).await, None);
        }
        tell.send(()).unwrap();
        let read = async {
            loop {
                if let Some(gauges) = gauge.read(&probe).await {
                    break gauges;
                }
            }
        };
        let gauges = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it answers by now");
        assert_eq!(gauges.load, Some(0.5));
        assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
    }
}
