"""The metrics of any finished log as text, intervals beside their means."""

from inspect_ai.log import EvalLog

from self_steering.analysis.page.text_table import text_table

_BOUNDS = ("_lower", "_upper")


def metrics_table(log: EvalLog) -> str:
    """Return every metric of a log.

    Raises:
        ValueError: The log is not finished, or holds no metric.
    """
    if log.status != "success" or log.results is None:
        raise ValueError(f"{log.location} is not finished (status {log.status}); finish it with `inspect eval-retry`")
    rows = []
    for score in log.results.scores:
        values = {metric.name: metric.value for metric in score.metrics.values()}
        for name, value in values.items():
            if any(name.endswith(bound) or f"{bound}_by_" in name for bound in _BOUNDS):
                continue
            low, high = (values.get(f"{name}{bound}") for bound in _BOUNDS)
            rows.append(
                {
                    "score": score.name,
                    "metric": name,
                    "value": f"{value:.4f}",
                    "95 % interval": "" if low is None or high is None else f"[{low:.4f}, {high:.4f}]",
                    "samples": f"{score.scored_samples} of {(score.scored_samples or 0) + (score.unscored_samples or 0)}",
                }
            )
    if not rows:
        raise ValueError(f"{log.location} holds no metric; was it scored? `inspect score` does it later")
    return f"{log.eval.task}, {log.eval.model}\n\n{text_table(rows)}"
