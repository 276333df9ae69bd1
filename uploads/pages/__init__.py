"""The pages of files. They work without JavaScript; whoever has it sees states move by themselves."""
