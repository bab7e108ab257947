"""Fine-tune a transformer with Hugging Face's Trainer under several losses, each with a tuned learning rate.

A small BERT and its sentences are made here, so that nothing is downloaded; put your own in their place.
"""

import tempfile

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, EvalPrediction, Trainer, TrainingArguments

import lossmith
from lossmith.integrations.huggingface import LossCallback, compute_loss_func

# Reviews of 8 words out of 20: of a good one 7 words in 10 are praise (0 to 9), of a bad one 3 in 10.
generator = np.random.default_rng(0)
labels = generator.integers(2, size=600)
praise = generator.random((600, 8)) < 0.3 + 0.4 * labels[:, None]
words = generator.integers(10, size=(600, 8)) + 10 * ~praise


def rows(part: np.ndarray) -> list[dict]:
    """Tokenised sentences as the Trainer takes them."""
    return [{"input_ids": torch.tensor(words[i]), "labels": int(labels[i])} for i in part]


def accuracy(found: EvalPrediction) -> dict[str, float]:
    """What the learning curve shows."""
    return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}


def train(run):
    """Fine-tune once, as the run says."""
    train, valid, test = run.split(labels)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"initializer_range": 0.2}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=2, **sizes))
    settings = TrainingArguments(
        tempfile.gettempdir(), seed=run.seed, max_steps=run.steps, learning_rate=run.lr, weight_decay=run.weight_decay,
        per_device_train_batch_size=16, gradient_accumulation_steps=2, use_cpu=run.device == "cpu",
        eval_strategy="steps", eval_steps=10, save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, settings, train_dataset=rows(train), eval_dataset=rows(valid), compute_metrics=accuracy,
        compute_loss_func=compute_loss_func(run.loss), callbacks=[LossCallback(run.loss, run)],
    )  # fmt: skip
    trainer.train()
    made = {name: trainer.predict(rows(part)) for name, part in (("valid", valid), ("test", test))}
    pairs = {name: (found.predictions, found.label_ids) for name, found in made.items()}
    return pairs["valid"], pairs["test"] if run.final else None


if __name__ == "__main__":
    result = lossmith.compare(train, losses="focal", steps=30, lrs=3, folds=0)
    print(result.table[["loss", "score", "verdict"]].to_string(index=False))
    print(result.recommendation)
