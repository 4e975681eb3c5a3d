"""What nvdisasm prints -> the block size and the instructions of each kernel."""

import re
from collections import Counter
from dataclasses import dataclass, field

_SECTION = re.compile(r"\s*\.section\s+\.(?P<kind>text|nv\.info)\.(?P<name>\w+),")
_OTHER_SECTION = re.compile(r"\s*\.section\s")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(?P<opcode>[A-Z][A-Z0-9_.]*)")
_WORD = re.compile(r"\.word\s+0x([0-9a-f]+)")


@dataclass
class Code:
    threads: int = 0
    instructions: Counter[str] = field(default_factory=Counter)


def codes(text: str) -> dict[str, Code]:
    """By mangled name. The words after EIATTR_MAX_THREADS are the x, y and z of the largest block."""
    found: dict[str, Code] = {}
    kind, name, attribute = "", "", ""
    for line in text.splitlines():
        if section := _SECTION.match(line):
            kind, name, attribute = section["kind"], section["name"], ""
            found.setdefault(name, Code())
        elif _OTHER_SECTION.match(line):
            kind = ""
        elif kind == "text" and (instruction := _INSTRUCTION.match(line)):
            found[name].instructions[instruction["opcode"]] += 1
        elif kind == "nv.info" and "EIATTR_" in line:
            attribute = line.split("EIATTR_")[1].strip()
        elif kind == "nv.info" and attribute == "MAX_THREADS" and (word := _WORD.search(line)):
            found[name].threads = max(found[name].threads, 1) * int(word[1], 16)
    return {name: code for name, code in found.items() if code.instructions}
