import numpy as np
import pytest
import torch

from lossmith.data import Dataset, DataSpec, make_splits


def texts(rows, labels=None, part=None):
    labels = np.arange(len(rows)) % 2 if labels is None else np.asarray(labels)
    part = None if part is None else np.asarray(part, np.int8)
    return Dataset("said", "said", "text", list(rows), labels, ("no", "yes"), part)


def in_parts(train, valid, test):
    return texts([*train, *valid, *test], part=[0] * len(train) + [1] * len(valid) + [2] * len(test))


def words(task, row):
    return [task.vocabulary[code] for code in row.tolist()]


def test_vocabulary_and_codes_of_a_small_set():
    train = ["The cat, the dog!", "a cat and a dog", "Über cat", "über alles"]
    task = make_splits(in_parts(train, ["a bird", "the end"], ["the über-dog", ""]), DataSpec("said"))
    # counts in train: cat 3; the, dog, a, über 2; ties in alphabetical order
    assert task.vocabulary == ("<pad>", "<unk>", "cat", "a", "dog", "the", "über")
    assert task.kind == "text"
    assert task.train.inputs.dtype == torch.int64
    assert task.input_shape == (6,)  # the cat , the dog !
    by_row = {int(row): words(task, code) for row, code in zip(task.train.index, task.train.inputs, strict=True)}
    assert by_row[0] == ["the", "cat", "<unk>", "the", "dog", "<unk>"]
    assert by_row[2] == ["über", "cat", "<pad>", "<pad>", "<pad>", "<pad>"]
    assert words(task, task.test.inputs[0])[:4] == ["the", "über", "<unk>", "dog"]
    assert words(task, task.test.inputs[1]) == ["<unk>", "<pad>", "<pad>", "<pad>", "<pad>", "<pad>"]


def test_vocabulary_and_length_come_from_the_training_texts_alone():
    train, valid = ["one two", "two one", "one", "two"], ["one", "two"]
    short = make_splits(in_parts(train, valid, ["one", "two"]), DataSpec("said"))
    long = make_splits(in_parts(train, valid, ["three " * 50, "one " * 50]), DataSpec("said"))
    assert short.vocabulary == long.vocabulary
    assert short.input_shape == long.input_shape == (2,)
    assert torch.equal(short.train.inputs, long.train.inputs)
    assert words(long, long.test.inputs[1]) == ["one", "one"]


def test_texts_are_cut_at_256_tokens():
    task = make_splits(in_parts(["word " * 1000] * 4, ["word"] * 2, ["word"] * 2), DataSpec("said"))
    assert task.input_shape == (256,)


def test_the_vocabulary_ends_at_20_000_tokens():
    many = " ".join(f"w{i}" for i in range(25_000))
    task = make_splits(in_parts([many, many, "z z z", "z"], ["z"] * 2, ["z"] * 2), DataSpec("said"))
    assert len(task.vocabulary) == 20_002
    assert task.vocabulary[2:4] == ("z", "w0")


def test_text_that_looks_like_the_padding_is_not_padding():
    task = make_splits(in_parts(["<pad> <unk>"] * 4, ["<pad>"] * 2, ["<pad>"] * 2), DataSpec("said"))
    assert (task.train.inputs > 1).all()


def test_texts_without_a_repeated_token_are_refused(refusal):
    assert "twice" in refusal(make_splits, texts([f"w{i}" for i in range(20)]), DataSpec("said"))


@pytest.mark.parametrize("empty", ["", "   ", "\t\n"])
def test_texts_without_tokens_do_not_break_training_texts(empty):
    task = make_splits(in_parts([empty, "a a", "a", empty], ["a"] * 2, ["a"] * 2), DataSpec("said"))
    assert (task.train.inputs[:, 0] != 0).all()
