"""One side of "answers per second": asks a slice of the questions each time it is told to, and says what was answered.

`zoomzero` is what `zoomzero eval` runs for every question (with `keep_tokens` where several are asked about a film);
`transformers` the model card's recipe, processor and `generate`; `lmms-eval` that harness's own Qwen3-VL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from turns import Turns

Row = dict[str, Any]  # id, video, question, options, text (the whole prompt behind the video)
Ask = Callable[[list[Row]], list[str]]


class Seen:
    """Hashes of the prompts a model was given, in their order."""

    def __init__(self) -> None:
        self.hashes: list[str] = []

    def add(self, ids: Any) -> None:
        """Take note of a prompt, (L,) token ids."""
        self.hashes.append(hashlib.sha256(bytes(str(ids.tolist()), "ascii")).hexdigest()[:16])

    def take(self) -> list[str]:
        """Return what was seen since the last time."""
        found, self.hashes = self.hashes, []
        return found

    def watch(self, model: Any) -> None:
        """Look at what `generate` is given."""
        generate = model.generate

        def watched(*args: Any, **inputs: Any) -> Any:
            self.add(inputs["input_ids"][0])
            return generate(*args, **inputs)

        model.generate = watched


def zoomzero(job: dict[str, Any], seen: Seen) -> Ask:
    """Return the product's asker of one question after the other."""
    import json

    from zoomzero.benchmarks.runner.asking import Item, ModelSpec, load_asker
    from zoomzero.config import load_model_settings
    from zoomzero.data.annotation import Question
    from zoomzero.policy.local.prompt import PromptBuilder

    settings = load_model_settings(Path(job["model"])).model_copy(update={"max_new_tokens": job["tokens"]})
    asker, _ = load_asker(ModelSpec(job["model"], settings, "cpu", "float32", keep_tokens=job["keep"]))
    layout = PromptBuilder.layout

    def watched(self: PromptBuilder, *args: Any, **rest: Any) -> Any:
        prompt = layout(self, *args, **rest)
        seen.add(prompt.ids)
        return prompt

    PromptBuilder.layout = watched  # type: ignore[method-assign]

    def ask(rows: list[Row]) -> list[str]:
        said = []
        for one in rows:
            question = Question(
                id=one["id"],
                video=one["video"],
                question=one["question"],
                options=tuple(one["options"]),
                answer="",
                spans=(),
                duration_s=0.0,
                in_words=not one["options"],
            )
            row = json.loads(asker.ask(Item(question, one["video"], "direct" if one["options"] else "coarse")))
            if row["failed"]:
                raise SystemExit(row["failed"])
            said.append(row["answer"] if one["options"] else row["passes"][0]["text"])
        return said

    return ask


def transformers(job: dict[str, Any], seen: Seen) -> Ask:
    """Return the recipe of the model card."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(job["model"], dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(job["model"])
    seen.watch(model)

    def ask(rows: list[Row]) -> list[str]:
        said = []
        for one in rows:
            content = [{"type": "video", "video": one["video"]}, {"type": "text", "text": one["text"]}]
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"fps": 1},
            )
            written = model.generate(**inputs, max_new_tokens=job["tokens"], do_sample=False)
            kept = written[:, inputs["input_ids"].shape[1] :]
            said += processor.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return said

    return ask


def lmms_eval(job: dict[str, Any], seen: Seen) -> Ask:
    """Return lmms-eval's own model, in float32 as the others (it loads bfloat16)."""
    from lmms_eval.models.chat.qwen3_vl import Qwen3_VL

    side = job["side"]
    harness = Qwen3_VL(
        pretrained=job["model"],
        device="cpu",
        device_map="cpu",
        batch_size=1,
        attn_implementation="sdpa",
        min_pixels=side * side,
        max_pixels=side * side,
        max_num_frames=512,
        fps=1,
    )
    harness._model.float()
    seen.watch(harness._model)

    def ask(rows: list[Row]) -> list[str]:
        def messages(one: Row) -> list[dict[str, Any]]:
            content = [{"type": "video", "url": one["video"]}, {"type": "text", "text": one["text"]}]
            return [{"role": "user", "content": content}]

        harness.task_dict["world"] = {"test": dict(enumerate(rows))}
        generation = {"max_new_tokens": job["tokens"]}
        # it sorts by the text; asked one at a time, the order stays
        requests = [
            [SimpleNamespace(args=(one["text"], messages, generation, i, "world", "test"))]
            for i, one in enumerate(rows)
        ]
        return [result.text for request in requests for result in harness.generate_until(request)]

    return ask


MAKE = {"zoomzero": zoomzero, "transformers": transformers, "lmms-eval": lmms_eval}


def main() -> None:
    turns = Turns()
    job = turns.job
    torch.set_num_threads(1)
    seen = Seen()
    ask = MAKE[job["who"]](job, seen)
    questions, size = job["questions"], job["slice"]
    with torch.inference_mode():
        ask(questions[:1])  # libraries set themselves up
        seen.take()
        turns.say(ready=job["who"])
        first = 0
        while turns.told():
            rows = questions[first : first + size]
            first = (first + size) % len(questions)
            with turns.watched() as took:
                said = ask(rows)
            turns.say(**took, said=said, prompts=seen.take())


if __name__ == "__main__":
    main()
