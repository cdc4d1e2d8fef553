"""The figures of the maths experiment and of capture-the-flag."""

from dataclasses import replace

from self_steering.analysis.drawing.report_figure import ReportFigure
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy_figures import Wording, accuracy_figure, effect_figure
from self_steering.analysis.tasks.ctf import ctf_effects, ctf_self_steering, ctf_success, ctf_unscored
from self_steering.analysis.tasks.maths import maths_accuracy, maths_effects, maths_self_steering
from self_steering.analysis.tasks.self_steering_figure import self_steering_figure

_MATHS = Wording("maths", "Maths accuracy by framing and intent", "accuracy", "problems")
_CTF = Wording("ctf", "Capture-the-flag success by framing and intent", "success", "challenges")


def maths_accuracy_by_cell(tables: Tables) -> ReportFigure | None:
    """Return maths accuracy by framing and intent beside no tools."""
    return accuracy_figure(maths_accuracy(tables), _MATHS)


def maths_against_no_tools(tables: Tables) -> ReportFigure | None:
    """Return what the tools change in maths accuracy, paired by problem."""
    return effect_figure(maths_effects(tables), _MATHS)


def maths_self_steer_rates(tables: Tables) -> ReportFigure | None:
    """Return how often models steered themselves in maths."""
    return self_steering_figure(maths_self_steering(tables), "maths-self-steering", "Self-steering in maths")


def ctf_success_by_cell(tables: Tables) -> ReportFigure | None:
    """Return success at capture-the-flag by framing and intent beside no tools."""
    figure = accuracy_figure(ctf_success(tables), _CTF)
    unscored = ctf_unscored(tables)
    if figure is None or not unscored:
        return figure
    return replace(figure, reading=f"{figure.reading} {unscored} rollouts have no result, and count nowhere.")


def ctf_against_no_tools(tables: Tables) -> ReportFigure | None:
    """Return what the tools change in success at capture-the-flag, paired by challenge."""
    return effect_figure(ctf_effects(tables), _CTF)


def ctf_self_steer_rates(tables: Tables) -> ReportFigure | None:
    """Return how often models steered themselves in capture-the-flag."""
    return self_steering_figure(ctf_self_steering(tables), "ctf-self-steering", "Self-steering in capture-the-flag")
