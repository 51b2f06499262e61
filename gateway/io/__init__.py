"""What touches the world, one file per thing touched; they do not know each other."""
