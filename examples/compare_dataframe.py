"""Compare losses on a DataFrame: which one trains a small network best to recognise tumours?"""

from sklearn.datasets import load_breast_cancer

import lossmith

frame = load_breast_cancer(as_frame=True).frame
frame["diagnosis"] = frame.pop("target").map({0: "malignant", 1: "benign"})

result = lossmith.compare(
    frame,
    label="diagnosis",
    losses="gce:q=?,brier",  # ? is tuned; each loss tunes its learning rate too
    model="mlp:width=32",
    label_noise=0.2,  # a fifth of the labels for training and validation are made wrong
    steps=150,
    workers=2,
    progress=False,
)

print(result.table[["loss", "score", "difference", "low", "high", "p"]].round(4).to_string(index=False))
print()
for verdict in result.verdicts.values():
    print(verdict)
print(result.recommendation)
print("The report:", result.report())
