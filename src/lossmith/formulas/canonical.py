from lossmith.formulas.expression import Expression
def canonical(e: Expression) -> Expression: return e
def digest(e: Expression) -> str: return str(e)
