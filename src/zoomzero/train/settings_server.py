"""Settings of rollouts that a server draws. Light: loads neither torch nor transformers."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from zoomzero.errors import ConfigError
from zoomzero.policy.remote.settings import ServerSettings, checked_url


class RolloutServerSettings(ServerSettings):
    """A vLLM that draws the completions, and how its weights follow the trained ones (docs/training-server.md)."""

    weights_dir: str | None = Field(
        None, description="Folder that this process and the server see under the same path; by default OUT/served."
    )
    max_staleness: int | None = Field(
        None,
        ge=0,
        description="Updates by which the weights that drew a completion may be older than those that learn from it; "
        "by default as many as one batch needs. Twice that and one more let the server draw the next batch meanwhile.",
    )
    max_weight: float = Field(
        2.0, ge=1, description="Largest importance weight p / p_server of a token; larger ones are cut to it."
    )
    max_gap: float = Field(
        0.02,
        gt=0,
        description="Mean difference between the server's log-probabilities and the trained model's own at which the "
        "run stops.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            return checked_url(url, "rollout.server.url")
        except ConfigError as error:
            raise ValueError(f"{error.reason}; {error.fix}") from error

    def check_run(self, mini_batches: int, *, sharded: bool) -> None:
        """Refuse a run that a server cannot draw for.

        Args:
            mini_batches: updates made from one batch.
            sharded: whether weights are spread over processes.

        Raises:
            ValueError: what is wrong, and the fix.
        """
        if sharded:
            raise ValueError("rollout.server needs the whole model in one process: set fsdp = false")
        if self.max_staleness is not None and self.max_staleness < mini_batches - 1:
            most = f"the last update of a batch learns from weights {mini_batches - 1} updates old"
            raise ValueError(f"rollout.server.max_staleness must be {mini_batches - 1} or more: {most}")

    def draws_ahead(self, mini_batches: int) -> bool:
        """Return whether the next batch may be drawn while one is learned from."""
        return self.max_staleness is not None and self.max_staleness >= 2 * mini_batches - 1

    @model_validator(mode="after")
    def _check_exact(self) -> RolloutServerSettings:
        if self.layout == "interleaved" or self.image_format != "png":
            raise ValueError("training needs the frames as they are: leave layout and image_format out")
        bare = [name for name, value in self.headers.items() if not value.startswith("env:")]
        if bare:  # run.json holds the settings
            raise ValueError(f"headers.{bare[0]} would be written down: write env:NAME and export NAME")
        return self
