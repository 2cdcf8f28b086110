"""Results taken elsewhere: files, the forms that trainers read, dataset folders and their cards, the Hub."""
