"""What anybody can check of an audit log, with nothing but its files and the public key that its tree heads name."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from domain.audit import AuditKind
from domain.audit_log import CHECKPOINT_ELEMENTS, CHECKPOINTS, NEWEST, bundle, checkpoint_path, entries_of, size_at
from domain.certificates import canonical_json
from domain.checkpoints import Checkpoint, IsSigned, Keys, NoCheckpointError, open_checkpoint
from domain.merkle import leaf_hash
from domain.merkle_tiles import HASH_BYTES, TILE_WIDTH, GrowingTiles, Tile, split
from domain.verification import Check, UnreadableError

_FIELDS = {"at", "body", "id", "kind"}
_KNOWN_KINDS = frozenset(AuditKind)
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder(order="sorted")


class LogFiles(Protocol):
    """A copy of one log, by paths inside its folder."""

    def read(self, path: str) -> bytes | None:
        """Return a file, or None where there is none."""
        ...

    def names(self, folder: str) -> Sequence[str]:
        """Return what is directly in a folder, sorted; nothing where there is no such folder."""
        ...


@dataclass(slots=True)
class _Finding:
    """What one check has seen: how much, and the first thing that is wrong."""

    name: str
    seen: int = 0
    wrong: str = ""

    def found(self, wrong: str) -> None:
        self.wrong = self.wrong or wrong

    def check(self, unit: str) -> Check:
        return Check(self.name, holds=not self.wrong, detail=self.wrong or f"{self.seen:,} {unit}")


@dataclass(slots=True)
class _Findings:
    readable: _Finding = field(default_factory=lambda: _Finding("entries readable"))
    form: _Finding = field(default_factory=lambda: _Finding("entries in the one form"))
    hashed: _Finding = field(default_factory=lambda: _Finding("entries hash to their tiles"))
    tiles: _Finding = field(default_factory=lambda: _Finding("tiles follow from those below"))
    parts: _Finding = field(default_factory=lambda: _Finding("partial tiles begin whole ones"))
    earlier: _Finding = field(default_factory=lambda: _Finding("earlier tree heads"))
    kept: _Finding = field(default_factory=lambda: _Finding("tree heads that were kept elsewhere"))
    strange: int = 0  # kinds of a later release

    def checks(self) -> list[Check]:
        form = self.form.check("entries")
        if self.strange and form.holds:
            form = Check(form.name, holds=True, detail=f"{form.detail}, {self.strange:,} of kinds not known here")
        return [
            self.readable.check("entries"),
            form,
            self.hashed.check("entries"),
            self.tiles.check("tiles"),
            self.parts.check("partial tiles and bundles"),
            self.earlier.check("tree heads, each of the same tree"),
            *([self.kept.check("of them, each of the same tree")] if self.kept.seen else []),
        ]


def checkpoint_sizes(files: LogFiles) -> list[int]:
    """Return the sizes of which a tree head is kept, in order."""
    found, folders = list[int](), [""]
    while folders:
        at = folders.pop()
        for name in files.names(f"{CHECKPOINTS}/{at}".rstrip("/")):
            path = f"{at}/{name}".lstrip("/")
            if name.startswith("x") and path.count("/") < CHECKPOINT_ELEMENTS - 1:
                folders.append(path)
            elif (size := size_at(path)) is not None:
                found.append(size)
    return sorted(found)


def verify_log(
    files: LogFiles, keys: Keys, is_signed: IsSigned, kept: Sequence[bytes] = ()
) -> tuple[list[Check], Checkpoint | None]:
    """Return every check, in order, and the newest tree head where it is signed; the log is good where all hold.

    `kept` are tree heads, signed notes, that came another way than the log: it has to reach to each, and to continue
    it. Files alone cannot tell that there was more of them.

    Raises:
        UnreadableError: this is no log; it has no tree head.
    """
    sizes = checkpoint_sizes(files)
    if not sizes:
        raise UnreadableError("no tree head: not an audit log")
    note = files.read(checkpoint_path(sizes[-1])) or b""
    try:
        newest = open_checkpoint(note, keys, is_signed)
    except NoCheckpointError as error:
        return [Check("signature of the newest tree head", holds=False, detail=str(error))], None
    signed = Check("signature of the newest tree head", holds=True, detail=f"{newest.origin}, {newest.size:,} entries")
    if newest.size != sizes[-1]:
        wrong = f"{checkpoint_path(sizes[-1])} is of {newest.size} entries"
        return [Check("signature of the newest tree head", holds=False, detail=wrong)], None
    reading = _Reading(files, newest, sizes, keys, is_signed)
    if (named := files.read(NEWEST)) is not None:
        reading.keep(NEWEST, named, reading.findings.earlier)
    for number, note in enumerate(kept, start=1):
        reading.keep(f"number {number}", note, reading.findings.kept)
    root = reading.run()
    held = Check("root of the newest tree head", holds=root == newest.root, detail=root.hex())
    return [signed, *reading.findings.checks(), held], newest


class _Reading:
    """One pass over a log, tile by tile: nothing is held but the right edge of the tree."""

    def __init__(self, files: LogFiles, newest: Checkpoint, sizes: list[int], keys: Keys, is_signed: IsSigned) -> None:
        self._files = files
        self._newest = newest
        self._earlier = [size for size in sizes if size < newest.size]
        self._keys = keys
        self._is_signed = is_signed
        self._tree = GrowingTiles()
        self._kept: list[tuple[Checkpoint, str, _Finding]] = []
        self.findings = _Findings()

    def keep(self, name: str, note: bytes, finding: _Finding) -> None:
        """Compare with this tree head, too."""
        finding.seen += 1
        try:
            found = open_checkpoint(note, self._keys, self._is_signed)
        except NoCheckpointError as error:
            finding.found(f"{name}: {error}")
            return
        if found.origin != self._newest.origin:
            finding.found(f"{name} is of another log: {found.origin}")
        elif found.size > self._newest.size:
            finding.found(f"{name} is of {found.size:,} entries, and the log has fewer")
        else:
            self._kept.append((found, name, finding))
            self._kept.sort(key=lambda kept: kept[0].size)

    def run(self) -> bytes:
        """Read everything and return the root of what was found."""
        self._compare_heads(0)
        for first in range(0, self._newest.size, TILE_WIDTH):
            width = min(TILE_WIDTH, self._newest.size - first)
            hashes = self._lowest(Tile(0, first // TILE_WIDTH, width))
            self._grow(first, hashes)
            for tile, content in self._tree.take_complete():
                if tile.level:
                    self._compare_tile(tile, content)
        for tile, content in self._tree.partial():
            if tile.level:
                self._compare_tile(tile, content)
        return self._tree.root()

    def _grow(self, first: int, hashes: list[bytes]) -> None:
        """Add the hashes of one tile, and look at each tree head on the way."""
        added = 0
        while (size := self._next_head()) is not None and size <= first + len(hashes):
            self._tree.extend(hashes[added : size - first])
            added = size - first
            self._compare_heads(size)
        self._tree.extend(hashes[added:])

    def _next_head(self) -> int | None:
        return min([*self._earlier[:1], *(head.size for head, _, _ in self._kept[:1])], default=None)

    def _compare_heads(self, size: int) -> None:
        """Compare the tree as it is, of this size, with every tree head of it."""
        if self._earlier[:1] == [size]:
            self._compare_head(self._earlier.pop(0))
        while self._kept and self._kept[0][0].size == size:
            head, name, finding = self._kept.pop(0)
            if head.root != self._tree.root():
                finding.found(f"{name}: another tree than that of the first {size:,} entries")

    def _compare_head(self, size: int) -> None:
        path, finding = checkpoint_path(size), self.findings.earlier
        try:
            found = open_checkpoint(self._files.read(path) or b"", self._keys, self._is_signed)
        except NoCheckpointError as error:
            finding.found(f"{path}: {error}")
            return
        if (found.origin, found.size) != (self._newest.origin, size):
            finding.found(f"{path} is of another log or size")
        elif found.root != self._tree.root():
            finding.found(f"{path}: another tree than that of the entries")
        finding.seen += 1

    def _lowest(self, tile: Tile) -> list[bytes]:
        """Check a tile of level 0 with the entries under it; return the hashes of the entries, or else the tile's."""
        kept = split(self._content(tile) or b"")
        leaves = self._entries(tile)
        if leaves is None:
            return kept if len(kept) == tile.width else [bytes(HASH_BYTES)] * tile.width
        hashes, finding, first = [leaf_hash(leaf) for leaf in leaves], self.findings.hashed, tile.index * TILE_WIDTH
        finding.seen += len(hashes)
        if hashes != kept:
            place = next((n for n, (own, told) in enumerate(zip(hashes, kept, strict=False)) if own != told), len(kept))
            finding.found(f"entry {first + place} is not what {tile.path} says{_named(leaves, place)}")
        self._compare_parts(tile, b"".join(hashes))
        self._check_form(first, leaves)
        return hashes

    def _entries(self, tile: Tile) -> list[bytes] | None:
        finding, first = self.findings.readable, tile.index * TILE_WIDTH
        content = self._files.read(tile.entries_path)
        if content is None and tile.width < TILE_WIDTH:
            content = self._files.read(tile.whole.entries_path)
        try:
            leaves = entries_of(content or b"")[: tile.width]
        except ValueError as error:
            finding.found(f"{tile.entries_path}: {error}")
            return None
        if len(leaves) != tile.width:
            finding.found(f"{tile.entries_path} has {len(leaves)} of {tile.width} entries, from entry {first} on")
            return None
        finding.seen += len(leaves)
        self._compare_bundles(tile, leaves)
        return leaves

    def _check_form(self, first: int, leaves: list[bytes]) -> None:
        finding = self.findings.form
        for index, leaf in enumerate(leaves, start=first):
            kind = _kind_of(leaf)
            if kind is None:
                finding.found(f"entry {index} is not in the one form")
                continue
            finding.seen += 1
            self.findings.strange += kind not in _KNOWN_KINDS

    def _compare_tile(self, tile: Tile, content: bytes) -> None:
        finding = self.findings.tiles
        if self._content(tile) != content:
            finding.found(f"{tile.path} is not the roots of the tiles below")
        finding.seen += 1
        self._compare_parts(tile, content)

    def _compare_parts(self, tile: Tile, content: bytes) -> None:
        """Compare the partial tiles of earlier sizes with the beginning of what became of them."""
        for width, path in self._parts_of(tile.whole.path, tile.width):
            if self._files.read(path) != content[: width * HASH_BYTES]:
                self.findings.parts.found(f"{path} is not the beginning of what it became")

    def _compare_bundles(self, tile: Tile, leaves: list[bytes]) -> None:
        for width, path in self._parts_of(tile.whole.entries_path, tile.width):
            if self._files.read(path) != bundle(leaves[:width]):
                self.findings.parts.found(f"{path} is not the beginning of what it became")

    def _parts_of(self, path: str, width: int) -> Iterator[tuple[int, str]]:
        """The partial files beside a whole one, up to `width`; wider ones are not signed yet."""
        for name in self._files.names(f"{path}.p"):
            if name.isdecimal() and 0 < int(name) <= width:
                self.findings.parts.seen += 1
                yield int(name), f"{path}.p/{name}"

    def _content(self, tile: Tile) -> bytes | None:
        content = self._files.read(tile.path)
        if content is None and tile.width < TILE_WIDTH:  # it grew, and who copied it left the part out
            whole = self._files.read(tile.whole.path)
            return None if whole is None else whole[: tile.width * HASH_BYTES]
        return content


def _kind_of(leaf: bytes) -> str | None:
    """Return the kind of an entry, or None where it is not in the one form."""
    try:
        entry = _DECODER.decode(leaf)
        # The fast encoder writes numbers with a fraction in another way than the one form has them
        is_good = entry.keys() == _FIELDS and (
            _ENCODER.encode(entry) == leaf or canonical_json(json.loads(leaf)) == leaf
        )
    except (ValueError, AttributeError, RecursionError):
        return None
    return str(entry["kind"]) if is_good else None


def _named(leaves: Sequence[bytes], place: int) -> str:
    """Name an entry by what it says of itself now, where that can be read."""
    try:
        entry = json.loads(leaves[place])
        return f" (now {entry['kind']} {entry['id']})"
    except (ValueError, KeyError, TypeError, IndexError):
        return ""
