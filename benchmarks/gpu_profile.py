"""Training throughput of real-size policies on one GPU: samples a second and FLOP utilisation.

Usage: python benchmarks/gpu_profile.py [--limit 300] [--only 500M] [--batch 16] [--steps 10]
Models have the published sizes and random weights, so that nothing is downloaded. A case is one
size with or without gradient checkpointing and torch.compile: it runs in a process of its own for
at most `--limit` seconds, and one that has its result in `--out` is not run again. A sample is a
frame with a command of 12 and a text of 40 tokens, its picture's tokens computed before, as in
training; a step is forward, backward and AdamW over the decoder and the expert in bf16 autocast.
FLOPs are those torch counts in one forward and backward pass of the plain model, without what
checkpointing repeats. `--device cpu --tiny` is a rehearsal with tiny models.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from family_models import SIZES, TINY, build, tokenizer  # noqa: E402
from tiny_policy import params, statistics  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dualvla import conventions, files, progress  # noqa: E402
from dualvla.models import families, vlm  # noqa: E402
from dualvla.models.policy import PolicyConfig, VlaPolicy  # noqa: E402
from dualvla.models.processing import Processor  # noqa: E402
from dualvla.training import policies, samples, sharding  # noqa: E402

# Family of the tokenizer, published size, tokens of a picture.
MODELS = {
    "500M": ("smolvlm", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 64),
    "2B": ("eagle", "SigLIP-so400m with Qwen2.5-1.5B", 256),
}
EXPERT = {"queries": 64, "chunk": 16, "expert_width": 768, "expert_layers": 12, "heads": 12}
# Dense bf16 TFLOP/s by a part of the device's name, first match; from the makers' data sheets.
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "A10": 125}
WARM = 3  # steps before the clock starts


def policy(name: str, tiny: bool, device: torch.device) -> VlaPolicy:
    """A policy of a model's size with random weights."""
    family, size, tokens = MODELS[name]
    words = tokenizer(family)
    words.add_tokens(["<image>", "<think>", "<act>"], special_tokens=True)
    torch.manual_seed(0)
    with device:
        made = build(TINY[family] if tiny else SIZES[size], attention="sdpa")
        made.resize_token_embeddings(max(len(words), made.config.text_config.vocab_size))
    shown = 4 if tiny else tokens
    processor = Processor(words, 32, shown, prompt=families.of(made.config).prompt)
    made.config.image_token_id = processor.image_id
    shape = params().model.model_copy(update={} if tiny else EXPERT)
    settings = PolicyConfig(shape, statistics(), conventions.WIDOWX_SIMULATION, True)
    return VlaPolicy(made, processor, settings).to(device).train()


def batches(model: VlaPolicy, size: int) -> samples.Mixer:
    """Frames with a text, all of one length."""
    processor, shape = model.processor, model.config.shape
    width = vlm.vision_width(model.vlm)
    command = processor.encode("put carrot on plate " * 20)[:12]
    text = processor.encode("subtask: grasp the carrot " * 40)[:39]
    prompt = [*processor.head, *command, *processor.tail]
    robot = samples.RobotSamples(
        torch.randn(size, processor.image_tokens, width),
        torch.rand(size, shape.chunk, 7),
        torch.zeros(size, 7),
        [prompt] * size,
        [prompt] * size,
        [[processor.think_id, *text, processor.eos_id]] * size,
        True,
    )
    return samples.Mixer(processor, size, 0.0, 0, robot)


def measure(name: str, checkpointing: bool, compiled: bool, given: Any) -> dict[str, Any]:
    """One case, in this process."""
    device = torch.device(given.device)
    model = policy(name, given.tiny, device)
    loss_of, made = policies.objective(model, 1.0), batches(model, given.batch)
    batch = sharding.share(made(0))

    def step(backward_only: bool = False) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(batch)["loss"]
        loss.backward()
        if not backward_only:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        optimizer.zero_grad()

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    whole, batch = batch, sharding.share(batches(model, 2)(0))
    with FlopCounterMode(display=False) as counter:
        step(backward_only=True)
    flops, batch = counter.get_total_flops() / 2, whole
    if checkpointing:
        model.vlm.gradient_checkpointing_enable({"use_reentrant": False})
    if compiled:
        for layer in vlm.decoder(model.vlm).layers:
            layer.compile()
    for _ in range(WARM):
        step()
    synchronise(device)
    start = time.perf_counter()
    for _ in range(given.steps):
        step()
    synchronise(device)
    rate = given.batch * given.steps / (time.perf_counter() - start)
    peak = next((tera for part, tera in PEAKS.items() if part in device_name(device)), None)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return {
        "status": "measured",
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in trained),
        "tokens": batch.sequences.input_ids.shape[1] + model.config.shape.queries,
        "gflop_per_sample": flops / 1e9,
        "samples_per_second": rate,
        "mfu": None if peak is None else rate * flops / (peak * 1e12),
        "peak_tflops": peak,
        "peak_memory_gib": memory,
    }


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()


def run(case: str, given: Any) -> dict[str, Any]:
    """A case in a process of its own; what became of it."""
    command = [sys.executable, __file__, "--case", case, *given.passed]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=given.limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {"status": f"not done in {given.limit:g} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if "OutOfMemoryError" in done.stderr:
        return {"status": "out of memory"}
    return {"status": "failed: " + " ".join(done.stderr.strip().splitlines()[-1:])[:300]}


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def table(cases: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| model | checkpointing | compile | samples/s | MFU | peak memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for case, found in cases.items():
        name, checkpointing, compiled = case.split("-")
        flags = f"{name} | {checkpointing[-1] == '1'} | {compiled[-1] == '1'}"
        if found["status"] != "measured":
            lines.append(f"| {flags} | {found['status']} | | |")
            continue
        mfu = "" if found["mfu"] is None else f"{found['mfu']:.1%}"
        memory = found["peak_memory_gib"]
        shown = "" if memory is None else f"{memory:.1f}"
        lines.append(f"| {flags} | {found['samples_per_second']:.1f} | {mfu} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Run what has no result yet, then print the table and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models: a rehearsal")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a case")
    parser.add_argument("--only", choices=MODELS, help="one size")
    parser.add_argument("--out", type=Path, default=Path(".cache/gpu_profile"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write(
            "error: no CUDA device -> run it where one is; rehearse: --device cpu --tiny\n"
        )
        sys.exit(2)
    if given.case:
        name, checkpointing, compiled = given.case.split("-")
        found = measure(name, checkpointing[-1] == "1", compiled[-1] == "1", given)
        progress.log(json.dumps(found))
        return
    given.passed = ["--device", given.device, *["--tiny"] * given.tiny]
    given.passed += ["--batch", str(given.batch), "--steps", str(given.steps)]
    names = [given.only] if given.only else list(MODELS)
    cases = [f"{n}-checkpointing{a}-compile{b}" for n, a, b in itertools.product(names, "01", "01")]
    results = {}
    for case in cases:
        path = given.out / f"{case}.json"
        if not path.is_file():
            files.write_json(path, run(case, given))
        results[case] = files.read_json(path)
        progress.log(f"{case}: {results[case]['status']}")
    where = torch.device(given.device)
    about = {"commit": commit(), "device": device_name(where), "cores": os.cpu_count()}
    about |= {
        "torch": torch.__version__,
        "batch": given.batch,
        "steps": given.steps,
        "tiny": given.tiny,
    }
    files.write_json(given.out / "summary.json", {"schema": 1, **about, "cases": results})
    progress.log(table(results))
    progress.log((given.out / "summary.json").read_text())


if __name__ == "__main__":
    main()
