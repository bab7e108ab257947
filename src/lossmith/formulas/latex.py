def latex(e): return str(e)
