"""Reads a GPU's machine code: which instructions are on the way, which of them repeat."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"0x([0-9a-f]+)")

#: What an instruction counts as: the first pattern that its name starts with.
KINDS = {
    "arithmetic": r"FFMA|FADD|FMUL",
    "shuffle": r"SHFL",
    "redux": r"REDUX",
    "load": r"LDG",
    "store": r"STG",
    "atomic": r"RED\b|REDG|ATOMG?\b",
    "fence": r"MEMBAR|ERRBAR|CGAERRBAR|CCTL",
    "barrier": r"BAR\b",
    "shared": r"LDS|STS",
    "spill": r"LDL|STL",
}
_KINDS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}
#: Numbers that a lane adds at once.
_VECTOR = re.compile(r"x(\d)\b")
_LOAD_BITS = re.compile(r"\.[US]?(8|16|64|128)\b")


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        address: In bytes.
        predicate: What it depends on, or "".
        name: With all modifiers.
        rest: Its operands.
    """

    address: int
    predicate: str
    name: str
    rest: str

    @property
    def kind(self) -> str:
        """One of ``KINDS``, or "other"."""
        return next((kind for kind, pattern in _KINDS.items() if pattern.match(self.name)), "other")

    @property
    def width(self) -> int:
        """Bytes that a lane loads, stores or adds at once."""
        if self.kind == "atomic":
            match = _VECTOR.search(self.name)
            return 4 * int(match[1]) if match else 4
        match = _LOAD_BITS.search(self.name)
        return int(match[1]) // 8 if match else 4


@dataclass
class Loop:
    """Instructions that repeat.

    Attributes:
        body: The instructions, without those of loops within.
        trips: How often they are executed, each time that they are come to.
        within: The next loop around, if there is one.
    """

    body: list[Instruction]
    trips: float = 1.0
    within: Loop | None = None

    @property
    def times(self) -> float:
        """How often a warp executes the body."""
        return self.trips * (self.within.times if self.within else 1)

    @property
    def adds(self) -> bool:
        """Whether anything in it is added to memory."""
        return any(each.kind == "atomic" for each in self.body)

    @property
    def touches_memory(self) -> bool:
        """Whether anything in it loads, stores or adds."""
        return any(each.kind in ("load", "store", "atomic") for each in self.body)


@dataclass
class Code:
    """What a warp executes: the path on which nothing diverges.

    Attributes:
        straight: What is executed once, all branches within taken as not skipping anything.
        loops: All loops, those within others after them.
        registers: A thread's.
        stack: Bytes of a thread in local memory; kernels without arrays only have spilled ones.
        shared: Bytes of a program.
    """

    straight: list[Instruction]
    loops: list[Loop] = field(default_factory=list)
    registers: int = 0
    stack: int = 0
    shared: int = 0

    def executed(self) -> dict[str, float]:
        """Instructions of a warp by kind, loops as often as they are run; "all" is their sum."""
        return self._sum(lambda each: 1)

    def bytes_of(self, *kinds: str) -> float:
        """Bytes that all 32 lanes of a warp move with instructions of some kinds."""
        moved = self._sum(lambda each: 32 * each.width)
        return sum(moved[kind] for kind in kinds)

    def static(self) -> Counter[str]:
        """Instructions by kind and, where they go to global memory, bytes of a lane."""
        counts: Counter[str] = Counter()
        for each in [*self.straight, *(each for loop in self.loops for each in loop.body)]:
            wide = each.kind in ("load", "store", "atomic")
            counts[f"{each.kind} of {each.width} bytes" if wide else each.kind] += 1
        return counts

    def _sum(self, value: Callable[[Instruction], float]) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        for part in [Loop(self.straight), *self.loops]:
            for each in part.body:
                sums[each.kind] += part.times * value(each)
                sums["all"] += part.times * value(each)
        return sums


def instructions(listing: str) -> list[Instruction]:
    """Those that cuobjdump lists, in order, without the padding at the end."""
    matches = [_LINE.match(line) for line in listing.splitlines()]
    return [
        Instruction(int(match[1], 16), (match[2] or "").strip(), match[3], match[4].strip())
        for match in matches
        if match and match[3] != "NOP"
    ]


def follow(code: Sequence[Instruction]) -> Code:
    """What is executed, in straight lines and loops.

    Where the compiler does not know that a warp is together it adds a second way for one that is
    not (`BRA.DIV`). That way is never taken here, since every branch depends on the program alone.
    """
    index_of = {instruction.address: number for number, instruction in enumerate(code)}
    reached: set[int] = set()
    spans: set[tuple[int, int]] = set()
    ahead = [0]
    while ahead:
        number = ahead.pop()
        while number < len(code) and number not in reached:
            reached.add(number)
            instruction = code[number]
            jumps = instruction.name.startswith("BRA") and instruction.name != "BRA.DIV"
            target = _TARGET.search(instruction.rest) if jumps else None
            if target and int(target[1], 16) in index_of:
                to = index_of[int(target[1], 16)]
                if to < number:
                    spans.add((to, number))
                ahead.append(to)
            if not instruction.predicate and (
                instruction.name == "EXIT" or (jumps and "P" not in instruction.rest)
            ):
                break
            number += 1
    return _split(code, reached, spans)


def _split(code: Sequence[Instruction], reached: set[int], spans: set[tuple[int, int]]) -> Code:
    # Loop header: two ways back to the same instruction are one loop.
    ends: dict[int, int] = {}
    for first, last in spans:
        ends[first] = max(last, ends.get(first, last))
    owner: dict[int, Loop] = {}
    loops = []
    for first, last in sorted(ends.items()):
        loop = Loop([], within=owner.get(first))
        loops.append(loop)
        owner.update(dict.fromkeys(range(first, last + 1), loop))
    straight: list[Instruction] = []
    for number in sorted(reached):
        (owner[number].body if number in owner else straight).append(code[number])
    return Code(straight, loops)
