"""The pages of files. They work without JavaScript, which only updates states by itself."""
