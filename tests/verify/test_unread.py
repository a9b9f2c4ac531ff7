"""Tensors that no test read: a suspect is not cleared while a stolen copy may lie beside what was read."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ticketguard import signing
from ticketguard.claims.keys import SecretKey
from ticketguard.commands import run
from ticketguard.evidence import UNREAD, Verdict
from ticketguard.masks import Mask
from ticketguard.storage.suspects import others_in, read_any
from ticketguard.storage.tensors import UNREAD as KEY
from ticketguard.storage.tensors import in_memory, write_tensors
from ticketguard.tickets import Architecture, Ticket
from ticketguard.verify.suspect import effective_weights, locate, unread
from ticketguard.verify.verifier import Examiner


def under(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


def masks(bits):
    return {f"{name}_mask": value.astype(np.uint8) for name, value in bits.items()}


def deltas(signed):
    """A stolen copy as the sum of two tensors for each of its weights."""
    return {
        **signed.unrelated,
        **{name + "_delta": signed.model[name] - signed.unrelated[name] for name in signed.mask},
    }


HIDDEN = {
    "two wrappers": lambda s: {**under("model.", s.unrelated), **under("net.", s.model)},
    "moving average": lambda s: {**s.unrelated, **under("ema.", s.model)},
    "three wrappers": lambda s: {**under("module.", s.unrelated), **under("net.", s.unrelated), **s.model},
    "originals beside weights": lambda s: {**s.unrelated, **{f"{name}_orig": s.model[name] for name in s.mask}},
    "masks beside weights": lambda s: {**s.unrelated, **masks(s.mask)},
    "weights as masks": lambda s: {**s.unrelated, **{f"{name}_mask": s.model[name] for name in s.mask}},
    "differences": deltas,
    "in another order of axes": lambda s: {**s.unrelated, **under("keras.", turned_around(s.model))},
    "under names of parameters that carry nothing": lambda s: {
        **{name: s.unrelated[name] for name in s.mask},
        "conv1.weight": s.model["conv2.weight"],
        "fc.weight": s.model["conv3.weight"],
    },
    "under names of biases": lambda s: {
        **s.unrelated,
        "fc.bias": s.model["conv2.weight"],
        "conv1.bias": s.model["conv3.weight"],
    },
    "numbered after a decoy": lambda s: dict(enumerate_names([*s.unrelated.values(), *s.model.values()])),
}


def turned_around(weights):
    return {name: value.transpose() for name, value in weights.items()}


def enumerate_names(values):
    return ((f"layer{number}", value) for number, value in enumerate(values))


@pytest.mark.parametrize("form", HIDDEN)
@pytest.mark.parametrize("align", ["auto", "never"])
def test_a_copy_beside_a_decoy_is_never_cleared(signed, form, align):
    verdict = signed.examiner.verify(HIDDEN[form](signed), align=align)
    assert verdict.decision == "INCONCLUSIVE"
    assert "what was not read" in verdict.reason
    note, *others = [note for note in verdict.notes if note.startswith(UNREAD)]
    assert "of registered shapes" in note
    assert "file of its own" in note
    assert len(others) == (align == "never")
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_the_note_counts_and_names_them(signed):
    notes = signed.plain.verify({**signed.unrelated, **under("ema.", signed.model)}).notes
    assert any("2 tensors of registered shapes ('ema.conv2.weight', 'ema.conv3.weight')" in note for note in notes)
    many = {**signed.unrelated, **{f"x{i}\n": signed.unrelated["conv2.weight"] for i in range(9)}}
    assert any(
        "9 tensors of registered shapes ('x0\\n', 'x1\\n', 'x2\\n', ...)" in n for n in signed.plain.verify(many).notes
    )
    one = {**signed.unrelated, "x": signed.unrelated["conv2.weight"]}
    assert any("1 tensor of a registered shape ('x')" in note for note in signed.plain.verify(one).notes)


def test_a_match_stays_a_match_with_every_number(signed):
    plain = signed.plain.verify(signed.model)
    both = signed.plain.verify({**signed.model, **under("ema.", signed.unrelated)})
    assert both.decision == "MATCH"
    assert (both.evidence, both.rule) == (plain.evidence, plain.rule)
    assert any(note.startswith(UNREAD) for note in both.notes)


PLAIN = {
    "all layers": lambda s: s.unrelated,
    "float16 in a wrapper": lambda s: under("module.", {n: v.astype(np.float16) for n, v in s.unrelated.items()}),
    "its own masks": lambda s: {**s.unrelated, **masks({name: s.unrelated[name] != 0 for name in s.mask})},
    "float masks": lambda s: {**s.unrelated, **{f"{n}_mask": (s.unrelated[n] != 0).astype(np.float32) for n in s.mask}},
    "pruning buffers": lambda s: {
        **{name: value for name, value in s.unrelated.items() if name not in s.mask},
        **{f"{name}_orig": s.unrelated[name] for name in s.mask},
        **{f"{name}_mask": np.ones_like(s.unrelated[name]) for name in s.mask},
    },
    "other shapes beside": lambda s: {**s.unrelated, "more": np.ones((24, 17, 3, 3)), "norm": np.ones(24)},
    "a second layer without carriers": lambda s: {**s.unrelated, "ema.fc.weight": s.model["fc.weight"]},
}


@pytest.mark.parametrize("form", PLAIN)
def test_ordinary_models_keep_their_plain_verdict(signed, form):
    expected = signed.examiner.verify(signed.unrelated)
    verdict = signed.examiner.verify(PLAIN[form](signed))
    assert verdict.decision == expected.decision == "NO MATCH"
    assert not any(note.startswith(UNREAD) for note in verdict.notes)


def test_parameters_that_the_registration_leaves_out_are_known_by_name(signed):
    registered = signed.opening.registration
    weights = {**signed.unrelated, "model.skip.weight": signed.unrelated["conv3.weight"]}
    effective = effective_weights(weights)
    read, some = locate(effective, registered.layers).matched, signed.examiner._board.sample
    assert unread(weights, effective, read, registered, some) == ["model.skip.weight"]
    axes = registered.symmetry["axes"]
    (conv3,) = [row["axes"] for row in axes if row["name"] == "conv3.weight"]

    def knowing(**parameters):
        """The registration, with more parameters that carry nothing, by the axes of each."""
        rows = [{"name": name.replace("_", "."), "axes": found} for name, found in parameters.items()]
        return replace(registered, symmetry={**registered.symmetry, "axes": [*axes, *rows]})

    knows = knowing(skip_weight=conv3)
    assert unread(weights, effective, read, knows, some) == []
    # A name alone excuses nothing: it must be a parameter that is as large.
    for other in ([conv3[0]], [conv3[0], None], [conv3[0], [[None, 0, 1, 1]]]):
        assert unread(weights, effective, read, knowing(skip_weight=other), some) == ["model.skip.weight"]
    gray = in_memory({"gray.weight": np.ones((24, 1, 3, 3))})
    carriers = [replace(entry, layer=replace(entry.layer, shape=(24, 1, 3, 3))) for entry in registered.table]
    for found, left in (([conv3[0], None], []), ([conv3[0]], ["gray.weight"])):
        depthwise = replace(knowing(gray_weight=found), table=tuple(carriers))
        assert unread(gray, effective_weights(gray), {}, depthwise, some) == left
    # What lies elsewhere in the file has no name of ours.
    file = in_memory(weights)
    file.metadata[KEY] = [["skip.weight", [24, 24, 3, 3]]]
    assert unread(file, effective_weights(file), read, knows, some) == ["skip.weight"]
    empty = replace(registered, table=tuple(replace(entry, pairs=0) for entry in registered.table))
    assert unread(weights, effective, read, empty, some) == []
    # No second tensor hides behind a known name.
    weights["net.skip.weight"] = weights["model.skip.weight"]
    assert unread(weights, effective_weights(weights), read, knows, some) == ["net.skip.weight"]


@pytest.mark.parametrize("align", ["auto", "never"])
@pytest.mark.parametrize("wide", [False, True])
def test_masks_with_factors_are_told_of(signed, align, wide):
    """What a mask with factors would make of the weights is not read, so that it neither hides a copy nor clears one."""
    generator = np.random.default_rng(0)

    def masked(weights):
        held = {name: np.pad(weights[name], [(0, int(wide)), (0, 0), (0, 0), (0, 0)]) for name in signed.mask}
        factors = {
            name: np.where(value == 0, np.inf, 10.0 ** generator.uniform(-6, 6, value.shape)).astype(np.float32)
            for name, value in held.items()
        }
        return {
            **{name: value for name, value in weights.items() if name not in signed.mask},
            **{f"{name}_orig": value for name, value in held.items()},
            **{f"{name}_mask": value for name, value in factors.items()},
        }

    verdict = signed.examiner.verify(masked(signed.unrelated), align=align)
    assert verdict.decision == "INCONCLUSIVE"
    stolen = signed.examiner.verify(masked(signed.model), align=align)
    # Wide layers cannot be read without alignment.
    assert stolen.decision == ("INCONCLUSIVE" if wide and align == "never" else "MATCH")
    for found in (verdict, stolen):
        assert any(
            note.startswith(f"{UNREAD}2 tensors of registered shapes ('conv2.weight_mask'") for note in found.notes
        )


def as_torch(weights):
    return {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}


CHECKPOINTS = {
    "moving average": lambda decoy, stolen: {"state_dict": decoy, "state_dict_ema": stolen},
    "in a list": lambda decoy, stolen: {"model": decoy, "history": [{"best": (stolen, 0.5)}]},
    "optimizer": lambda decoy, stolen: {
        "model": decoy,
        "optimizer": {"state": {n: {"exp_avg": t} for n, t in enumerate(stolen.values())}, "param_groups": []},
    },
    "odd keys": lambda decoy, stolen: {"net": decoy, (1, 2): stolen},
}


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[] if form == "odd keys" else pytest.mark.slow) for form in CHECKPOINTS]
)
def test_checkpoints_tell_of_what_lies_beside_the_state_dict(signed, tmp_path, form):
    path = tmp_path / "checkpoint.pt"
    torch.save(CHECKPOINTS[form](as_torch(signed.unrelated), as_torch(signed.model)), path)
    verdict = signed.examiner.verify(read_any(path))
    assert verdict.decision == "INCONCLUSIVE"
    assert any(note.startswith(f"{UNREAD}2 tensors of registered shapes") for note in verdict.notes)
    torch.save(CHECKPOINTS[form](as_torch(signed.model), as_torch(signed.unrelated)), path)
    assert signed.examiner.verify(read_any(path)).decision == "MATCH"
    torch.save({"state_dict": as_torch(signed.unrelated), "epoch": 3}, path)
    assert signed.examiner.verify(read_any(path)).decision == "NO MATCH"


@pytest.mark.parametrize("prefix", ["ema.", ""], ids=["under other names", "under the same names in another shard"])
def test_shards_tell_of_what_their_index_leaves_out(signed, tmp_path, prefix):
    shards = {"a.safetensors": signed.unrelated, "b.safetensors": {**under(prefix, signed.model), "extra": np.zeros(3)}}
    for name, weights in shards.items():
        write_tensors(tmp_path / name, weights, {})
    places = {**dict.fromkeys(signed.unrelated, "a.safetensors"), "extra": "b.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    verdict = signed.plain.verify(read_any(tmp_path))
    assert verdict.decision == "INCONCLUSIVE"
    assert any(note.startswith(f"{UNREAD}2 tensors of registered shapes ('b.safetensors: ") for note in verdict.notes)


@pytest.mark.parametrize("said", [None, 3, "x", [3], [["a"]], [["a", 3]], [["a", [1.5]]], {"a": [24, 16, 3, 3]}])
def test_a_file_that_says_nonsense_of_itself_leaves_nothing_unread(signed, said):
    file = in_memory(signed.unrelated)
    file.metadata[KEY] = said
    assert others_in(file) == []
    assert signed.examiner.verify(file).decision == "NO MATCH"


def test_the_command_ends_with_the_code_of_an_inconclusive_verdict(signed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TICKETGUARD_PASSPHRASE", "fixture")
    path = tmp_path / "two.safetensors"
    write_tensors(path, {**signed.unrelated, **under("ema.", signed.model)}, {})
    assert run(["verify", str(path), "--signed", str(signed.bundle.folder)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("INCONCLUSIVE")
    assert "not read: 2 tensors of registered shapes ('ema.conv2.weight'" in said


def perceptron(shapes):
    """A signed ticket of linear layers in a chain: examiner and weights."""
    generator = np.random.default_rng(1)
    mask = {f"fc{n}.weight": generator.random(shape) < 0.3 for n, shape in enumerate(shapes)}
    weights = {name: np.where(b, generator.normal(size=b.shape), 0).astype(np.float32) for name, b in mask.items()}
    ticket = Ticket(architecture=Architecture(), weights=weights, mask=Mask(mask))
    registered = signing.register(
        ticket, SecretKey.from_seed(bytes(32)), owner="Lab", master=bytes(32), nonce=bytes(32)
    )
    opening = registered.opening
    return Examiner(opening), signing.embed(ticket, opening).ticket.weights


def exported(path, weights, *, live):
    """An ONNX export of a chain, with a MatMul that reads each matrix the other way round: dead, or added times nothing."""
    onnx = pytest.importorskip("onnx")
    nodes, value = [], "x"
    constants = {**weights, "nothing": np.zeros((), np.float32)}
    for number, (name, matrix) in enumerate(weights.items()):
        # Batches of the other width for matrices that are not square.
        constants[f"other{number}"] = np.ones((1, matrix.shape[0]), np.float32)
        nodes.append(onnx.helper.make_node("Gemm", [value, name], [f"h{number}"], transB=1))
        nodes.append(onnx.helper.make_node("MatMul", [f"other{number}", name], [f"m{number}"]))
        nodes.append(onnx.helper.make_node("ReduceSum", [f"m{number}"], [f"s{number}"], keepdims=0))
        nodes.append(onnx.helper.make_node("Mul", [f"s{number}", "nothing"], [f"z{number}"]))
        nodes.append(onnx.helper.make_node("Add", [f"h{number}", f"z{number}"], [f"y{number}"]))
        value = f"y{number}" if live else f"h{number}"
    shown = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("x", value)]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    path.write_bytes(
        onnx.helper.make_model(
            onnx.helper.make_graph(nodes, "g", shown[:1], shown[1:], initializer=tensors)
        ).SerializeToString()
    )
    return read_any(path)


@pytest.mark.parametrize("shapes", [[(96, 96)] * 3, [(96, 64), (80, 96), (96, 80)]], ids=["square", "oblong"])
def test_nodes_that_read_matrices_the_other_way_hide_nothing(tmp_path, shapes):
    examiner, weights = perceptron(shapes)
    path = tmp_path / "m.onnx"
    assert examiner.verify(exported(path, weights, live=False), align="never").decision == "MATCH"
    assert examiner.verify(exported(path, weights, live=True), align="never").decision == "MATCH"
    stored = {name: np.ascontiguousarray(np.asarray(matrix).T) for name, matrix in weights.items()}
    turned = examiner.verify(exported(path, stored, live=True), align="never")
    # The shape says which way an oblong matrix goes; of a square one the other way was not read.
    assert turned.decision == ("INCONCLUSIVE" if shapes[0] == (96, 96) else "MATCH")
    if turned.decision == "INCONCLUSIVE":
        assert any("'transposed.fc0.weight'" in note for note in turned.notes)


@pytest.mark.parametrize("shape", [(24, -1), (24, 24, 9), (-1,), (24 * 24, 3, 3)])
def test_a_copy_whose_axes_were_put_together_is_never_cleared(signed, shape):
    """A loader reshapes it; a decoy stands under the layer's name, or under no name at all."""
    copy = {"head.weight": signed.model["conv3.weight"].reshape(shape)}
    verdict = signed.examiner.verify({**signed.unrelated, **copy})
    assert verdict.decision == "INCONCLUSIVE"
    assert any(note.startswith(f"{UNREAD}1 tensor of a registered shape ('head.weight')") for note in verdict.notes)


@pytest.mark.parametrize("spoilt", [0.005, 0.05, 1.0])
def test_a_suspect_with_many_values_that_are_no_numbers_is_never_cleared(signed, spoilt):
    """A loader may take NaN for zero: the pruned positions of a copy, say."""
    rng = np.random.default_rng(0)
    weights = dict(signed.unrelated)
    for name in signed.mask:
        weights[name] = np.where(rng.random(weights[name].shape) < spoilt / 2, np.nan, weights[name])
    verdict = signed.examiner.verify(weights)
    noted = [note for note in verdict.notes if "no finite numbers" in note]
    assert (verdict.decision, len(noted)) == (("NO MATCH", 0) if spoilt < 0.01 else ("INCONCLUSIVE", 1))
    hidden = {name: np.where(signed.mask[name], signed.model[name], np.nan) for name in signed.mask}
    assert signed.examiner.verify({**signed.model, **hidden}).decision == "INCONCLUSIVE"
