"""What a comparison looks like: a leaderboard in the terminal, a page of HTML, its pictures."""
