//! A simulated machine whose noise is known.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// Relative deviations, normal in logarithms: of one repetition within its process, and of a process as a whole.
pub struct Machine {
    rng: ChaCha8Rng,
    pub within: f64,
    pub between: f64,
}

impl Machine {
    pub fn new(within: f64, between: f64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(11), within, between }
    }

    /// Uniform on [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                return u * (-2.0 * s.ln() / s).sqrt();
            }
        }
    }

    /// The repetitions of one process.
    pub fn run(&mut self, speed: f64, repetitions: u32) -> Vec<f64> {
        let process = speed * (self.between * self.normal()).exp();
        (0..repetitions).map(|_| process * (self.within * self.normal()).exp()).collect()
    }
}
