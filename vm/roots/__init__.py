"""What guests run from: a root of their own, built of Debian's packages and pinned wheels; the project's files."""
