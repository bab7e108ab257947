"""Random formulas, and how they vary."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from lossmith.evolution.grammar import FUNCTIONS, Grammar, drawn, ramped, random_tree, tidied
from lossmith.evolution.variation import (
    constant_mutation,
    constants_of,
    hoist_mutation,
    offspring,
    one_point_crossover,
    point_mutation,
    subtree_mutation,
    uniform_crossover,
    with_constants,
)
from lossmith.formulas import Expression, apply, constant, parse, substitute, terminal
from lossmith.formulas.edit import subtrees
from lossmith.formulas.expression import ARITY, fold

GRAMMAR = Grammar()
NGL = parse("exp(2.4092 - p*(1 + y)) - cos(cos(sin(p)))")
FOCAL = parse("y*c*square(1 - p)")


def draws(seed: int, count: int = 300) -> list[Expression]:
    return ramped(np.random.default_rng(seed), GRAMMAR, count, deepest=6)


def heights(tree: Expression) -> set[int]:
    """The number of nodes on each path from the root to a leaf."""
    return fold(tree, lambda node, below: {1 + each for each in set().union(*below)} if below else {1})


def test_full_trees_have_all_paths_of_one_length() -> None:
    """Of functions and terminals that do not fold."""
    grammar = Grammar(terminals=("p", "c"), functions=("max", "exp"), max_size=10_000)
    rng = np.random.default_rng(0)
    full = [random_tree(rng, grammar, 5, full=True) for _ in range(50)]
    with_terminals = [tree for tree in full if not constants_of(tree)]
    assert with_terminals
    assert all(heights(tree) == {5} for tree in with_terminals)
    grown = [random_tree(rng, grammar, 5, full=False) for _ in range(50)]
    assert all(max(heights(tree)) <= 5 for tree in grown)
    assert not any(tree.name for tree in grown)
    assert any(len(heights(tree)) > 1 for tree in grown)


def test_ramped_trees_are_of_all_depths_and_within_the_limits() -> None:
    trees = draws(0)
    assert len(trees) == 300
    assert {tree.depth for tree in trees} >= {2, 3, 4, 5, 6}
    assert all(tree.depth <= 6 and tree.size <= 32 for tree in trees)
    tight = Grammar(max_depth=3, max_size=4)
    assert all(tight.holds(tree) for tree in ramped(np.random.default_rng(1), tight, 200, deepest=9))


def test_random_trees_hold_what_the_grammar_names() -> None:
    used = {node.op for tree in draws(0) for node in subtrees(tree)}
    assert used == {*FUNCTIONS, "constant", "terminal"}
    assert {name for tree in draws(0) for name in tree.terminals} == {"p", "y", "c", "n"}
    timed = ramped(np.random.default_rng(0), Grammar(terminals=("p", "y", "t")), 100)
    assert {name for tree in timed for name in tree.terminals} == {"p", "y", "t"}


def test_terminals_are_drawn_by_their_weights() -> None:
    leaves = [random_tree(np.random.default_rng(seed), GRAMMAR, 1, full=True) for seed in range(4000)]
    for name, share in (("p", 0.3), ("y", 0.3), ("c", 0.15), ("n", 0.05), ("", 0.2)):
        assert sum(leaf.name == name for leaf in leaves) / 4000 == pytest.approx(share, abs=0.03)


def test_constants_have_four_digits() -> None:
    for tree in draws(3):
        assert all(value == float(f"{value:.4g}") for value in constants_of(tree))


@pytest.mark.parametrize("name", ["q", "", "exp"])
def test_a_grammar_of_what_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="terminal"):
        Grammar(terminals=("p", name))


@pytest.mark.parametrize("cross", [one_point_crossover, uniform_crossover])
def test_a_crossover_makes_nothing_new(cross) -> None:
    """Every leaf and operator of a child stands in a parent, and both parents leave something in some child."""
    first, last = parse("exp(p*3) - sin(y)"), parse("tanh(c + 5)*max(n, 7)")
    material = [{(node.op, node.name, node.value) for node in subtrees(each)} for each in (first, last)]
    rng = np.random.default_rng(0)
    mixed = 0
    for _ in range(200):
        child = {(node.op, node.name, node.value) for node in subtrees(cross(rng, first, last))}
        assert child <= material[0] | material[1]
        mixed += bool(child & (material[0] - material[1])) and bool(child & (material[1] - material[0]))
    assert mixed > 100


def test_one_point_crossover_moves_a_whole_subtree() -> None:
    rng = np.random.default_rng(0)
    whole = set(subtrees(FOCAL))
    for _ in range(100):
        child = one_point_crossover(rng, NGL, FOCAL)
        outside = [node for node in subtrees(child) if node in whole]
        assert outside


def test_uniform_crossover_keeps_the_common_shape() -> None:
    rng = np.random.default_rng(0)
    first, last = parse("p + exp(y*2)"), parse("c - sin(n/3)")
    children = {str(uniform_crossover(rng, first, last)) for _ in range(2000)}
    ops = [("{} + ", "{} - "), ("p", "c"), ("exp", "sin"), ("*", "/"), ("y", "n"), ("2", "3")]
    assert len(children) == 2 ** len(ops)


def test_a_crossover_at_one_point_leaves_the_root_unless_there_is_nothing_else() -> None:
    rng = np.random.default_rng(0)
    children = {str(one_point_crossover(rng, parse("exp(p)"), parse("sin(c)"))) for _ in range(50)}
    assert children == {"exp(sin(c))", "exp(c)"}
    assert {str(one_point_crossover(rng, parse("p"), parse("sin(c)"))) for _ in range(50)} == {"sin(c)", "c"}


def test_hoisting_shrinks_and_adds_nothing() -> None:
    rng = np.random.default_rng(0)
    for tree in draws(5):
        if tree.args:
            child = hoist_mutation(rng, tree)
            assert child.size < tree.size
            assert {node.op for node in subtrees(child)} <= {node.op for node in subtrees(tree)}


def test_point_mutation_keeps_the_shape() -> None:
    rng = np.random.default_rng(0)
    for tree in draws(6):
        child = point_mutation(rng, GRAMMAR, tree)
        assert [len(node.args) for node in subtrees(child)] == [len(node.args) for node in subtrees(tree)]
        pairs = zip(subtrees(child), subtrees(tree), strict=True)
        assert sum((a.op, a.name, a.value) != (b.op, b.name, b.value) for a, b in pairs) <= 1


def test_point_mutation_reaches_every_operator_with_as_many_operands() -> None:
    rng = np.random.default_rng(0)
    children = [point_mutation(rng, GRAMMAR, parse("exp(p)")) for _ in range(600)]
    assert {child.op for child in children} == {name for name in FUNCTIONS if ARITY[name] == 1}
    assert np.mean([child.op != "exp" for child in children]) == pytest.approx(0.5, abs=0.06)  # root or leaf
    assert point_mutation(rng, Grammar(functions=("exp", "add")), parse("exp(p)")).op == "exp"


@pytest.mark.parametrize(("value", "deviation"), [(-5.0, 1.5), (0.5, 0.15), (0.01, 0.03), (0.0, 0.03)])
def test_small_constants_move_as_well(value: float, deviation: float) -> None:
    rng = np.random.default_rng(0)
    moves = [constants_of(constant_mutation(rng, constant(value)))[0] - value for _ in range(1000)]
    assert np.mean(moves) == pytest.approx(0.0, abs=0.1 * deviation)
    assert np.std(moves) == pytest.approx(deviation, rel=0.1)


def test_a_constant_that_overflows_stays_as_it_was() -> None:
    rng = np.random.default_rng(0)
    values = [constants_of(constant_mutation(rng, parse("1.7e308*p")))[0] for _ in range(50)]
    assert 0 < values.count(1.7e308) < 50


def test_constant_mutation_is_gaussian_and_moves_one_constant() -> None:
    rng = np.random.default_rng(0)
    moves = []
    for _ in range(2000):
        before, after = constants_of(NGL), constants_of(constant_mutation(rng, NGL))
        (place,) = [i for i in range(2) if before[i] != after[i]] or [0]
        moves.append((after[place] - before[place]) / before[place])
    assert np.mean(moves) == pytest.approx(0.0, abs=0.03)
    assert np.std(moves) == pytest.approx(0.3, rel=0.05)
    assert constant_mutation(rng, parse("p*y")) == parse("p*y")


def test_subtree_mutation_is_bounded() -> None:
    rng = np.random.default_rng(0)
    children = [subtree_mutation(rng, GRAMMAR, FOCAL) for _ in range(300)]
    assert max(child.size for child in children) <= FOCAL.size - 1 + 7
    assert len(set(children)) > 150


def test_subtree_mutation_draws_trees_of_depth_1_to_3() -> None:
    """Of p (weight .3), constants (.2) and exp: exp of a constant is folded, and below the root a leaf has rate .3."""
    rng, grammar = np.random.default_rng(0), Grammar(terminals=("p",), functions=("exp",))
    trees = [subtree_mutation(rng, grammar, terminal("p")) for _ in range(4000)]
    p = 0.3 / 0.5
    shares = {"p": p / 3, "exp(p)": p * (1 + 0.3) / 3, "exp(exp(p))": p * 0.7 / 3}
    for text, share in shares.items():
        assert np.mean([str(tree) == text for tree in trees]) == pytest.approx(share, abs=0.02)
    assert np.mean([tree.is_constant for tree in trees]) == pytest.approx(1 - p, abs=0.02)


def test_operators_are_drawn_by_their_rates() -> None:
    """Some more often, because others more often give the parent and are drawn again."""
    rng = np.random.default_rng(0)
    parents = [parse("exp(2.4 - p*(1.5 + y)) - cos(max(c, 3)*sin(n))"), parse("tanh(y*7 - square(c))*min(p, 0.5)")]
    names = [offspring(rng, GRAMMAR, parents)[1] for _ in range(2000)]
    rates = {
        "one-point crossover": 0.35,
        "uniform crossover": 0.1,
        "subtree mutation": 0.2,
        "point mutation": 0.1,
        "constant mutation": 0.15,
        "hoist mutation": 0.1,
    }
    assert {name: names.count(name) / 2000 for name in {*names}} == pytest.approx(rates, abs=0.05)


def test_a_child_is_drawn_ten_times_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(Grammar):
        def holds(self, expression: Expression) -> bool:
            return False

    names: list[str] = []

    def counted(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
        names.append(drawn(rng, weights))
        return names[-1]

    monkeypatch.setattr("lossmith.evolution.variation.drawn", counted)
    assert offspring(np.random.default_rng(0), Nothing(), [NGL, FOCAL]) == (NGL, "reproduction")
    assert len(names) == 10


def test_children_stay_within_the_limits_and_are_folded() -> None:
    rng = np.random.default_rng(0)
    tight = Grammar(max_depth=5, max_size=12)
    parents = ramped(rng, tight, 200, deepest=5)
    names = set()
    for _ in range(2000):
        child, name = offspring(rng, tight, [parents[rng.integers(200)], parents[rng.integers(200)]])
        assert child.depth <= 5
        assert child.size <= 12
        assert substitute(child) == child
        assert all(value == float(f"{value:.4g}") for value in constants_of(child))
        names.add(name)
        parents[rng.integers(200)] = child
    assert len(names - {"reproduction"}) == 6


def test_a_child_differs_from_its_parent_unless_nothing_fits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        child, name = offspring(rng, GRAMMAR, [NGL, FOCAL])
        assert child != NGL
        assert name != "reproduction"
    only = Grammar(terminals=("p",), functions=("exp",), max_depth=1, max_size=1)
    results = {offspring(rng, only, [terminal("p")]) for _ in range(100)}
    assert all(child.is_constant or child == terminal("p") for child, _ in results)


def test_a_single_parent_is_enough() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        assert GRAMMAR.holds(offspring(rng, GRAMMAR, [FOCAL])[0])


def test_a_seed_fixes_everything() -> None:
    def run(seed: int) -> list[tuple[Expression, str]]:
        rng = np.random.default_rng(seed)
        parents = ramped(rng, GRAMMAR, 20)
        return [offspring(rng, GRAMMAR, [parents[i % 20], parents[-i % 20]]) for i in range(200)]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_constants_come_out_and_go_in() -> None:
    assert constants_of(NGL) == (2.4092, 1.0)
    assert with_constants(NGL, constants_of(NGL)) == NGL
    assert with_constants(NGL, (2.0, 3.0)) == parse("exp(2 - p*(3 + y)) - cos(cos(sin(p)))")
    shared = constant(2.0)
    assert with_constants(apply("add", shared, shared), (1.0, 4.0)) == parse("1 + 4")
    with pytest.raises(ValueError, match="2 constants, and 1 values"):
        with_constants(NGL, (1.0,))


def test_folding_never_overflows_by_rounding() -> None:
    assert tidied(apply("mul", constant(1.7976931348623157e308), constant(1.0))).value == 1.7976931348623157e308


def test_children_of_operators_outside_the_grammar() -> None:
    """Seeds may hold any operator."""
    rng = np.random.default_rng(0)
    seed = parse("log1p(sqrt(p)) - sign(y - 0.5)*pow(p, 3)/expm1(c)")
    for _ in range(300):
        child, _ = offspring(rng, GRAMMAR, [seed, NGL])
        assert {node.op for node in subtrees(child)} - {"constant", "terminal"} <= ARITY.keys()
