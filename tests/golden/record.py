"""Makes every file of tests/golden anew: python tests/golden/record.py [part ...].

Parts: checkpoints networks sampling solver guidance images noise tree tree_2023 mixture demo single_files clip lpips (all of them, in this order, when none is named). All but the
first read the checkpoints that are there. See README.md for what the files hold.
"""
import sys

sys.dont_write_bytecode = True
import common  # noqa: F401  first: sets what torch and the libraries read on import


def checkpoints():
    import checkpoints as part
    from diffusers import DDIMScheduler
    numbers = {k: part.SCHEDULER[k] for k in ("beta_start", "beta_end", "beta_schedule")}
    part.write(DDIMScheduler(**numbers).alphas_cumprod)


def networks():
    import networks as part
    part.record()


def sampling():
    import sampling as part
    part.record()


def solver():
    import solver as part
    part.record()


def guidance():
    import guidance as part
    part.record()


def images():
    import images as part
    part.record()


def noise():
    import noise as part
    part.record()


def tree():
    import tree_record as part
    part.record()


def tree_2023():
    import tree_2023_record as part
    part.record()


def mixture():
    import mixture as part
    part.record()


def demo():
    import demo as part
    part.record()


def single_files():
    import single_files as part
    part.record()


def clip():
    import clip as part
    part.record()


def lpips():
    import lpips_alex as part
    part.record()


PARTS = {f.__name__: f for f in (checkpoints, networks, sampling, solver, guidance, images, noise, tree, tree_2023, mixture, demo, single_files, clip, lpips)}

if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in PARTS]
    if unknown:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for name in sys.argv[1:] or PARTS:
        print(name)
        PARTS[name]()
