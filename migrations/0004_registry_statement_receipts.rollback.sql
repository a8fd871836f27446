DROP INDEX statement_receipt_opened;
DROP TABLE statement_receipt;
