"""How the book is built: what each chapter depends on, running it, collecting claims, making the pages."""
