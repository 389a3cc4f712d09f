"""Why one file is slower than another: multiply-adds, the machine's limit, and the time of each operator."""

from __future__ import annotations

from collections.abc import Iterator

from pneumo_edge._util.document import Block, Cell, Folded, Paragraph, Points, Section, Table, count
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Run, Runs, units
from pneumo_edge.benchmarks.supplement.records import OperatorProfile, Supplement
from pneumo_edge.benchmarks.supplement.summary import Achieved, Reason, achieved, reasons

#: Maximum number of operators that are named, and the minimum share of the time of each.
_TOP, _LEAST_SHARE = 6, 0.01


def section(runs: Runs) -> Section | None:
    """Multiply-adds, operators, and the share of the machine's limit."""
    if not any(run.summary.results.supplement and achieved(run.summary) for run in runs):
        return None
    sentences = tuple(_sentence(run, reason) for run in runs for reason in reasons(run.summary))
    blocks: list[Block] = [
        Paragraph(
            "The time of an inference is the number of its multiply-adds divided by their rate. The rate depends on "
            "how well the operators fit the machine. Small and depthwise convolutions, products of activations and "
            "switches between kernels do little arithmetic for the memory that they access."
        )
    ]
    if sentences:
        blocks.append(Points(sentences))
    blocks += [
        _work(runs),
        Paragraph(
            "Multiply-adds of convolution and dense layers in one inference; the rate is at the median wall time. The "
            "limit is the highest rate measured on this machine in the same arithmetic with the same number of "
            "threads: a large matrix product with numpy or a large convolution with LiteRT, whichever is faster. No "
            'engine reaches it on a whole network. "Delegated" is the number of operators that the engine delegates '
            "to its kernel library, and the number of pieces.",
            minor=True,
        ),
        Folded("Limits of the machine", (_limits(runs),)),
    ]
    if any(run.summary.results.supplement and run.summary.results.supplement.profiles for run in runs):
        blocks.append(Folded("Time by operator", (_profiles(runs), _profile_note())))
    return Section("Why one file is slower", tuple(blocks))


def _sentence(run: Run, reason: Reason) -> str:
    slower, faster = reason.slower, reason.faster
    names = [backbone_title(each.row.model.backbone) for each in (slower, faster)]
    where = ", ".join(cell.text for cell in cells.unit(slower.row)[1:])
    which = f"{run.letter}, " if run.letter else ""
    operators = [sum(each.graph.graph.operators.values()) for each in (slower, faster)]
    return (
        f"{which}{where}: {names[0]} takes {reason.time:.2f} times as long as {names[1]}: {reason.work:.2f} times the "
        f"multiply-adds at {reason.speed:.2f} times the rate, with {operators[0]} operators against "
        f"{operators[1]}{_pieces(slower, faster)}."
    )


def _pieces(slower: Achieved, faster: Achieved) -> str:
    pieces = [each.row.result.partitions for each in (slower, faster)]
    return "" if pieces[0] == pieces[1] else f", delegated in {pieces[0]} pieces against {pieces[1]}"


def _work(runs: Runs) -> Table:
    labels = cells.unit_columns(runs)
    by_row = {id(each.row): each for run in runs for each in achieved(run.summary)}
    return Table(
        (
            *labels,
            "Multiply-adds M",
            "Parameters M",
            "Operators",
            "Delegated",
            "Inference ms",
            "Multiply-adds G/s",
            "Share of limit",
        ),
        len(labels),
        tuple((*cells.unit(row, run), *_numbers(by_row[id(row)])) for run, row in units(runs) if id(row) in by_row),
        group=cells.ENGINE,
    )


def _numbers(each: Achieved) -> Iterator[Cell]:
    graph, result = each.graph.graph, each.row.result
    delegated = each.graph.delegated.get(result.unit.engine, 0)
    yield cells.number(graph.multiply_adds / 1e6, 1)
    yield cells.number(graph.parameters / 1e6)
    yield cells.number(sum(graph.operators.values()), 0)
    if result.delegate == "none":
        yield Cell("none")
    else:
        yield Cell(str(delegated), f"in {count(result.partitions, 'piece')}", delegated)
    yield cells.number(each.row.inference.median_ms)
    yield cells.number(each.multiply_adds_per_s / 1e9, 1)
    yield Cell("not measured") if each.share is None else cells.share(each.share)


def _limits(runs: Runs) -> Table:
    return Table(
        ("Limit", "Arithmetic", *cells.run_columns(runs), "Threads", "Multiply-adds G/s"),
        2 + len(cells.run_columns(runs)),
        tuple(
            (
                Cell(limit.by),
                Cell(limit.arithmetic),
                *cells.letter(run),
                cells.number(limit.threads, 0),
                cells.number(limit.multiply_adds_per_s / 1e9, 1),
            )
            for run in runs
            for limit in (run.summary.results.supplement or Supplement()).limits
        ),
    )


def _profiles(runs: Runs) -> Table:
    labels = cells.unit_columns(runs)
    rows = []
    for run, row in units(runs):
        for profile in (run.summary.results.supplement or Supplement()).profiles:
            if profile.unit == row.result.unit:
                total = sum(profile.milliseconds.values())
                top = [item for item in _sorted(profile) if item[1] >= _LEAST_SHARE * total][:_TOP]
                shares = ", ".join(f"{name} {ms / total:.0%}" for name, ms in top)
                rows.append((*cells.unit(row, run), Cell(shares), cells.number(total)))
    return Table((*labels, "Share of the time", "Sum ms"), len(labels) + 1, tuple(rows), group=cells.ENGINE)


def _sorted(profile: OperatorProfile) -> list[tuple[str, float]]:
    return sorted(profile.milliseconds.items(), key=lambda item: -item[1])


def _profile_note() -> Paragraph:
    return Paragraph(
        "From the engine's own profiler, by operator after the engine's fusion. Profiling adds time of its own. The "
        "Python packages of the TFLite engines offer no such profile.",
        minor=True,
    )
