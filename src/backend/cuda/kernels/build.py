"""Compiles the kernels ahead: machine code for each generation, and PTX that drivers compile for newer ones.

    pip install --target A nvidia-cuda-nvrtc-cu12==12.0.140
    pip install --target B nvidia-cuda-nvrtc-cu12==12.8.93
    python src/backend/cuda/kernels/build.py [--verbose] A B

The compiler of CUDA 12.0 makes what drivers from version 525 on take; it does not know compute capability 10.0 and
12.0, whose drivers are of CUDA 12.8 or newer anyway. No GPU, no toolkit and no header is wanted.
With --verbose it says what registers and memory each kernel takes.

Writes kernels.code and convert.code, which are part of the library, and kernels.sources and convert.sources, hashes of the
sources and of what came of them, by which tests/cuda_kernels.rs sees that they are current. What is in a .code file is said in ../code.rs, which reads it.
"""

import ctypes
import hashlib
import os
import pathlib
import re
import struct
import subprocess
import sys
import zlib

HERE = pathlib.Path(__file__).resolve().parent
# For each compiler, by its version: what it makes machine code and PTX for.
MADE = {(12, 0): ([75, 80, 86, 89, 90], [90]), (12, 8): ([100, 120], [])}
# In the order of a .code file's numbers.
MACHINE, PTX = 0, 1
# convert.cu by itself: no multiplication may be joined with an addition in it, for the processor rounds both.
UNITS = {
    "kernels": ("common.cuh product.cu attention.cu norm.cu plain.cu kernels.cu", []),
    "convert": ("common.cuh convert.cu", ["--fmad=false"]),
}


class Compiler:
    """NVRTC, as its header nvrtc.h has it."""

    def __init__(self, folder):
        found = sorted(pathlib.Path(folder).rglob("libnvrtc.so.12"))
        if not found:
            sys.exit(f"{folder}: no libnvrtc.so.12 in it")
        self.library = ctypes.CDLL(str(found[0]))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.check(self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = (major.value, minor.value)

    def check(self, status, program=None):
        if status == 0:
            return
        text = self.library.nvrtcGetErrorString(status)
        if program is not None:
            text += b"\n" + self.text(program, "ProgramLog")
        sys.exit(text.decode())

    def text(self, program, what):
        """What nvrtcGet...Size and nvrtcGet... hand out."""
        size = ctypes.c_size_t()
        self.check(getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self.check(getattr(self.library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def compile(self, source, name, options, verbose):
        """The machine code or PTX that the options ask for."""
        program = ctypes.c_void_p()
        create = self.library.nvrtcCreateProgram
        create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int] + [ctypes.c_void_p] * 2
        self.check(create(ctypes.byref(program), source.encode(), name.encode(), 0, None, None))
        words = [option.encode() for option in options]
        words = (ctypes.c_char_p * len(words))(*words)
        self.check(self.library.nvrtcCompileProgram(program, len(words), words), program)
        log = self.text(program, "ProgramLog").rstrip(b"\0").decode()
        if verbose and log.strip():
            print(options[0], log, sep="\n", file=sys.stderr)
        code = self.text(program, "PTX" if "--gpu-architecture=compute" in options[0] else "CUBIN")
        self.check(self.library.nvrtcDestroyProgram(ctypes.byref(program)))
        return code


def joined(name):
    """A source with the sources that it includes, each once, in its place."""
    seen = set()

    def lines(name):
        seen.add(name)
        for line in (HERE / name).read_text().splitlines():
            included = re.match(r'#include "(.*)"', line)
            if included is None or included[1] == "emulated.h":
                yield line
            elif included[1] not in seen:
                yield from lines(included[1])

    return "\n".join(lines(name)) + "\n"


def compile_all(folder, verbose):
    """All that the compiler in `folder` is for, into its standard output: unit, kind, capability, length, then the code."""
    compiler = Compiler(folder)
    if compiler.version not in MADE:
        sys.exit(f"{folder}: NVRTC {compiler.version}: wanted one of {sorted(MADE)}")
    machine, ptx = MADE[compiler.version]
    for unit, (_, options) in UNITS.items():
        for kind, capability in [(MACHINE, c) for c in machine] + [(PTX, c) for c in ptx]:
            target = f"--gpu-architecture={'sm' if kind == MACHINE else 'compute'}_{capability}"
            words = [target, "--std=c++17", *options] + (["--ptxas-options=-v"] if verbose else [])
            code = compiler.compile(joined(f"{unit}.cu"), f"{unit}.cu", words, verbose)
            version = compiler.version[0] * 1000 + compiler.version[1] * 10
            fields = struct.pack("<8s5I", unit.encode(), kind, capability // 10, capability % 10, version, len(code))
            sys.stdout.buffer.write(fields + code)


def main():
    verbose = "--verbose" in sys.argv[1:]
    folders = [word for word in sys.argv[1:] if not word.startswith("--")]
    if "--one" in sys.argv[1:]:
        return compile_all(folders[0], verbose)
    if len(folders) != 2:
        sys.exit(__doc__)
    entries = {unit: [] for unit in UNITS}
    for folder in folders:
        # Each in a process of its own: both libraries have one name, and look for their parts by the loader's path.
        library = next(iter(sorted(pathlib.Path(folder).rglob("libnvrtc.so.12"))), pathlib.Path(folder)).parent
        environment = dict(os.environ, LD_LIBRARY_PATH=str(library))
        words = [sys.executable, __file__, "--one", folder] + ["--verbose"] * verbose
        out = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True).stdout
        while out:
            unit, *head, length = struct.unpack_from("<8s5I", out)
            entries[unit.rstrip(b"\0").decode()].append((head, out[28 : 28 + length]))
            out = out[28 + length :]
    for unit, (sources, _) in UNITS.items():
        head, body = struct.pack("<8sI", b"lb code1", len(entries[unit])), b""
        start = len(head) + 28 * len(entries[unit])
        for fields, code in entries[unit]:
            packed = zlib.compress(code, 9)
            head += struct.pack("<7I", *fields, start + len(body), len(packed), len(code))
            body += packed
        (HERE / f"{unit}.code").write_bytes(head + body)
        text = b"".join((HERE / name).read_bytes() for name in [*sources.split(), "build.py"])
        hashes = [hashlib.sha256(what).hexdigest() for what in (text, head + body)]
        (HERE / f"{unit}.sources").write_text("\n".join(hashes) + "\n")
        print(f"{unit}.code: {len(head + body)} bytes, {len(entries[unit])} parts")


if __name__ == "__main__":
    main()
