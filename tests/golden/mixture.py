"""A denoiser that needs no weights: latents drawn from a mixture of round Gaussians, where the best guess is known exactly.

Component k has weight w_k, mean m_k and deviation s_k. Noised to abar = a it is a Gaussian around sqrt(a) m_k with variance
V_k = a s_k^2 + 1 - a, so with r_k the share of component k in explaining x (softmax of log w_k - D/2 log V_k - |x - sqrt(a) m_k|^2 / 2V_k)

    E[x0 | x] = sum_k r_k (m_k + sqrt(a) s_k^2 / V_k (x - sqrt(a) m_k)),      eps = (x - sqrt(a) E[x0 | x]) / sqrt(1 - a).

A prompt is a vector c added to every mean; the empty prompt is c = 0. So mixing prompts linearly moves the means linearly.

With one component everything has a closed form. Let y = x - sqrt(a) m. A DDIM step from a to b multiplies y by

    (sqrt(a b) s^2 + sqrt((1 - a)(1 - b))) / V(a),

so N steps are one product; infinitely many give sqrt(V(end) / V(start)). Guidance g with the same s moves the mean to
m + g c exactly. All in f64; abar are diffusers' f32 values.
"""
import numpy as np
import torch
from diffusers import DDIMScheduler

import tree_2022 as old
from checkpoints import SCHEDULER
from common import randn, save

ABAR = DDIMScheduler(**SCHEDULER).alphas_cumprod.double().numpy()


class Mixture:
    def __init__(self, weights, means, sigmas):
        self.weights, self.means, self.sigmas = (np.asarray(v, dtype=np.float64) for v in (weights, means, sigmas))

    def x0(self, x, a, prompt=0.0):
        """x: [D]; the expected clean latent."""
        means = self.means + prompt
        variance = a * self.sigmas ** 2 + 1 - a
        off = x - np.sqrt(a) * means
        logit = np.log(self.weights) - x.size / 2 * np.log(variance) - (off ** 2).sum(1) / (2 * variance)
        share = np.exp(logit - logit.max())
        share /= share.sum()
        return share @ (means + (np.sqrt(a) * self.sigmas ** 2 / variance)[:, None] * off)

    def eps(self, x, a, prompt=0.0):
        return (x - np.sqrt(a) * self.x0(x, a, prompt)) / np.sqrt(1 - a)

    def guided(self, x, a, prompt, scale):
        empty = self.eps(x, a)
        return empty + scale * (self.eps(x, a, prompt) - empty)


def leading(n):
    """(abar at the step, abar after it), the noisiest first; the last goes to abar[0]."""
    t = np.arange(n)[::-1] * (1000 // n) + 1
    return [(ABAR[i], ABAR[max(i - 1000 // n, 0)]) for i in t]


def sample(eps, noise, pairs):
    x = noise
    for a, b in pairs:
        e = eps(x, a)
        x = np.sqrt(b) * (x - np.sqrt(1 - a) * e) / np.sqrt(a) + np.sqrt(1 - b) * e
    return x


def closed(noise, mean, sigma, pairs):
    """One component, N steps, without a loop over x."""
    factor = np.prod([(np.sqrt(a * b) * sigma ** 2 + np.sqrt((1 - a) * (1 - b))) / (a * sigma ** 2 + 1 - a) for a, b in pairs])
    return np.sqrt(pairs[-1][1]) * mean + factor * (noise - np.sqrt(pairs[0][0]) * mean)


def limit(noise, mean, sigma, start, end):
    """One component, infinitely many steps."""
    variance = lambda a: a * sigma ** 2 + 1 - a
    return np.sqrt(end) * mean + np.sqrt(variance(end) / variance(start)) * (noise - np.sqrt(start) * mean)


def record_one():
    shape, sigma = (4, 4, 4), 0.6
    mean, prompt = 0.8 * randn(91, 64).double().numpy(), 0.5 * randn(92, 64).double().numpy()
    noises = randn(93, 3, 64).double().numpy()
    one = Mixture([1.0], [mean], [sigma])
    tensors = {"mean": mean.reshape(shape), "sigma": np.array([sigma]), "prompt": prompt.reshape(shape), "noise": noises.reshape(3, *shape)}
    for n in (1, 5, 12, 20, 50, 250, 999):
        pairs = leading(n)
        final = np.stack([closed(x, mean, sigma, pairs) for x in noises])
        guided = np.stack([closed(x, mean + 7.5 * prompt, sigma, pairs) for x in noises])
        for x, f, g in zip(noises, final, guided):
            assert np.allclose(sample(one.eps, x, pairs), f, atol=1e-10)
            assert np.allclose(sample(lambda x, a: one.guided(x, a, prompt, 7.5), x, pairs), g, atol=1e-9)
        far = np.stack([limit(x, mean, sigma, pairs[0][0], pairs[-1][1]) for x in noises])
        tensors |= {f"final.{n}": final.reshape(3, *shape), f"guided7.5.{n}": guided.reshape(3, *shape), f"limit.{n}": far.reshape(3, *shape)}
        print(f"  one component, {n} steps: {np.abs(final - far).max():.1e} from the limit")
    save("mixture_one", tensors)


class AsUnet:
    """The mixture in the place of a UNet, for the 2022 sampler: context [n, 1, D] is the prompt's vector."""
    dtype = torch.float64

    def __init__(self, mixture):
        self.mixture = mixture
        self.abar = old.alphas().astype(np.float32).astype(np.float64)

    def __call__(self, x, t, encoder_hidden_states):
        out = [self.mixture.eps(s.numpy().ravel(), self.abar[t], c.numpy().ravel()) for s, c in zip(x, encoder_hidden_states)]
        self.sample = torch.from_numpy(np.stack(out)).reshape(x.shape)
        return self


def record_three():
    shape = (4, 2, 2)
    means, prompts = 0.9 * randn(94, 3, 16).double().numpy(), 0.5 * randn(95, 2, 16).double().numpy()
    weights, sigmas = np.array([0.5, 0.3, 0.2]), np.array([0.5, 0.35, 0.8])
    noises = randn(96, 4, 16).double().numpy()
    three = Mixture(weights, means, sigmas)
    tensors = {"weights": weights, "means": means.reshape(3, *shape), "sigmas": sigmas, "prompts": prompts.reshape(2, *shape), "noise": noises.reshape(4, *shape)}
    for t in (1, 201, 601, 951):  # the denoiser itself
        tensors[f"x0.{t}"] = np.stack([three.x0(x, ABAR[t]) for x in noises]).reshape(4, *shape)
        tensors[f"eps.{t}"] = np.stack([three.eps(x, ABAR[t]) for x in noises]).reshape(4, *shape)
    for n in (5, 20, 50):
        tensors[f"final.{n}"] = np.stack([sample(three.eps, x, leading(n)) for x in noises]).reshape(4, *shape)
        tensors[f"guided4.{n}"] = np.stack([sample(lambda x, a: three.guided(x, a, prompts[0], 4.0), x, leading(n)) for x in noises]).reshape(4, *shape)
    # a whole 2022 transition, in f64 but for the mixing, which that version rounds to f32
    start = [torch.from_numpy(x).float().double().reshape(1, *shape) for x in noises[:2]]
    first, second = (torch.from_numpy(p).reshape(1, 1, 16) for p in prompts)
    for name, (steps, indices, branches) in {"lowest": old.preset("lowest"), "low": old.preset("low"), "medium": old.preset("medium")}.items():
        plan = old.Plan.new(steps, indices, branches)
        done = old.run(plan, old.Sampler(AsUnet(three), "epsilon", steps), start, first, second, torch.zeros(1, 1, 16, dtype=torch.float64))
        last = len(plan.fractions) - 1
        tensors[f"tree_{name}.fractions"] = plan.fractions[last]
        tensors[f"tree_{name}.leaves"] = torch.cat([done[last, k] for k in range(len(plan.fractions[last]))])
    save("mixture_three", tensors)


def record_solver():
    """Where DPM-Solver++(2M) leads the three: diffusers' timesteps, our own f64 loop."""
    import solver
    three = Mixture(np.array([0.5, 0.3, 0.2]), 0.9 * randn(94, 3, 16).double().numpy(), np.array([0.5, 0.35, 0.8]))
    prompts, noises = 0.5 * randn(95, 2, 16).double().numpy(), randn(96, 4, 16).double().numpy()
    tensors = {}
    for n in (2, 5, 20, 50):
        scheduler = solver.solver()
        scheduler.set_timesteps(n)
        abar = [float(ABAR[t]) for t in scheduler.timesteps.tolist()] + [1.0]

        def lead(x, eps):
            step = lambda x, k: (x - np.sqrt(1 - abar[k]) * eps(x, abar[k])) / np.sqrt(abar[k])
            return solver.second_order(step, x, abar)[-1]

        tensors[f"final.{n}"] = np.stack([lead(x, three.eps) for x in noises]).reshape(4, 4, 2, 2)
        tensors[f"guided4.{n}"] = np.stack([lead(x, lambda x, a: three.guided(x, a, prompts[0], 4.0)) for x in noises]).reshape(4, 4, 2, 2)
    save("mixture_solver", tensors)


def record():
    record_one()
    record_three()
    record_solver()
