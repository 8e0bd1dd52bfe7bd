//! In: a run's wishes on guidance. Out: [`GuidanceSteps`], what of each branch's guidance scale is left at
//! each step, and the factor that keeps a guided prediction from being too strong.

use crate::error::{Error, Result};

/// How guidance goes along the steps of a run, for all branches alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuidanceSteps {
    /// What of a branch's guidance scale g is left at each step of the schedule: the step's scale is
    /// 1 + (g - 1) x the factor. At 0 the negative prompt is not evaluated. Steps beyond the end have a
    /// factor of 1, so that none at all is constant guidance.
    pub factors: Vec<f64>,
    /// How far a guided prediction is brought back to the deviation of the unguided one, 0 (not at all) to
    /// 1: phi of Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", equation
    /// 16; `guidance_rescale` in diffusers. Meant for models that predict the velocity; 0.7 is theirs.
    pub rescale: f64,
}

impl GuidanceSteps {
    /// The factor of step `index` of the schedule.
    pub fn factor(&self, index: usize) -> f64 {
        self.factors.get(index).copied().unwrap_or(1.0)
    }

    /// The guidance scale of a branch of scale `guidance` at step `index`.
    pub fn scale(&self, guidance: f64, index: usize) -> f64 {
        match self.factor(index) {
            1.0 => guidance,
            factor => 1.0 + (guidance - 1.0) * factor,
        }
    }

    /// Fails for numbers that are none.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn check(&self) -> Result<()> {
        const MOST: f64 = 100.0;
        if let Some(odd) = self.factors.iter().find(|f| !(0.0..=MOST).contains(*f)) {
            return Err(Error::invalid(format!("a guidance factor of {odd}: wanted 0 to {MOST}")));
        }
        if !(0.0..=1.0).contains(&self.rescale) {
            return Err(Error::invalid(format!(
                "guidance rescale {}: wanted 0 to 1",
                self.rescale
            )));
        }
        Ok(())
    }

    /// What the guided prediction n + g (p - n) of one sample is multiplied with: equations 14 to 16 of Lin
    /// et al. 2023 as one factor, phi sigma(p) / sigma(guided) + 1 - phi. Sums in f64, in one order.
    pub fn correction(&self, positive: &[f32], negative: &[f32], guidance: f64) -> f64 {
        if self.rescale == 0.0 || guidance == 1.0 {
            return 1.0;
        }
        let wide = |v: &f32| f64::from(*v);
        let told = deviation(positive.iter().map(wide));
        let pairs = positive.iter().zip(negative);
        let guided = deviation(pairs.map(|(p, n)| wide(n) + guidance * (wide(p) - wide(n))));
        if guided > 0.0 { self.rescale * told / guided + 1.0 - self.rescale } else { 1.0 }
    }
}

/// The standard deviation, but for the count in its denominator, which quotients do not see.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_of_zero_is_no_guidance_and_of_one_all_of_it() {
        let steps = GuidanceSteps { factors: vec![1.0, 0.5, 0.0], rescale: 0.0 };
        let scales: Vec<f64> = (0..4).map(|index| steps.scale(7.3, index)).collect();
        assert_eq!(scales, [7.3, 1.0 + 6.3 * 0.5, 1.0, 7.3]);
    }

    #[test]
    fn a_rescaled_prediction_has_the_deviation_of_the_unguided_one() {
        let (positive, negative) = ([1.0, -2.0, 4.0, 0.5], [0.5, 1.0, -1.0, 0.25]);
        let steps = GuidanceSteps { factors: Vec::new(), rescale: 1.0 };
        let factor = steps.correction(&positive, &negative, 4.0);
        let guided = positive.iter().zip(&negative).map(|(p, n)| f64::from(n + 4.0 * (p - n)));
        let wanted = deviation(positive.iter().map(|&p| f64::from(p)));
        assert!((deviation(guided.map(|v| v * factor)) - wanted).abs() < 1e-9);
        assert_eq!(GuidanceSteps::default().correction(&positive, &negative, 4.0), 1.0);
        assert_eq!(steps.correction(&positive, &negative, 1.0), 1.0);
    }
}
