export function compile(): void;
