"""The figures of a vector library's page, in the page's order."""

from self_steering.analysis.drawing.themed_svg import PageFigure, page_style
from self_steering.analysis.library.cosine_figure import cosine_map
from self_steering.analysis.library.dose_figures import default_doses, dose_response
from self_steering.analysis.library.layer_figures import constructions_by_layer, norms_by_layer
from self_steering.analysis.library.separation_figure import separations
from self_steering.vectors.report import LibraryReport


def library_figures(report: LibraryReport) -> list[PageFigure]:
    """Return all figures that the report has data for; those of doses need a calibration, that of cosines two vectors."""
    with page_style():
        figures = [separations(report), constructions_by_layer(report)]
        if len(report.names) > 1:
            figures.append(cosine_map(report))
        figures.append(norms_by_layer(report))
        if report.calibration is not None:
            figures += [dose_response(report.calibration, report.names), default_doses(report.calibration)]
    return figures
